"""Answers by image: there and back, and what is no such text."""

from __future__ import annotations

import numpy as np
import pytest

from iaside_plugins.entry.build import proportion
from iaside_plugins.entry.per_image import MOST, pack_bits, unpack_bits


@pytest.mark.parametrize("n", [1, 7, 8, 9, 150])
def test_there_and_back(n: int) -> None:
    rng = np.random.default_rng(n)
    flags = rng.random(n) < 0.5
    assert (unpack_bits(pack_bits(flags), n) == flags).all()


@pytest.mark.parametrize(
    ("text", "n", "message"),
    [
        ("_w==", 3, "bits of 3 images"),
        ("_w==", 9, "expected 2 bytes, got 1"),
        ("a", 1, "expected Base64"),
    ],
)
def test_no_bits_of_so_many_images(text: str, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_bits(text, n)


def test_a_proportion_holds_them_up_to_a_number_of_images() -> None:
    assert "images" not in proportion([True, False])
    assert unpack_bits(proportion([True, False], by_image=True)["images"], 2).tolist() == [1, 0]
    assert "images" not in proportion(np.ones(MOST + 1), by_image=True)
