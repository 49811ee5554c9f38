"""What messages take from other code: its errors in one line."""

from __future__ import annotations

from iaside_plugins.errors import error_text, first_line


def test_an_error_of_other_code_is_said_on_one_line():
    error = ValueError(" expected\n  a number\tabove 0\n")
    assert error_text(error) == "expected a number above 0"
    assert error_text(error, 8) == "expected"
    assert first_line(error) == "expected"


def test_an_error_that_says_nothing_is_said_too():
    assert first_line(ValueError("\n")) == "no reason given"
    assert first_line(ValueError(), "ValueError") == "ValueError"
