"""What messages take from other code: its errors in one line, and the first of many names."""

from __future__ import annotations

import pytest

from iaside_plugins.errors import error_text, first_line, first_names


def test_an_error_of_other_code_is_said_on_one_line():
    error = ValueError(" expected\n  a number\tabove 0\n")
    assert error_text(error) == "expected a number above 0"
    assert error_text(error, 8) == "expected"
    assert first_line(error) == "expected"


def test_an_error_that_says_nothing_is_said_too():
    assert first_line(ValueError("\n")) == "no reason given"
    assert first_line(ValueError(), "ValueError") == "ValueError"


@pytest.mark.parametrize(("n", "said"), [(0, ""), (1, "a"), (2, "a, b"), (3, "a, b, ...")])
def test_of_many_names_the_first_are_said(n, said):
    assert first_names(list("abc")[:n], 2) == said
