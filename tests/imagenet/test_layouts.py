"""Every layout of images on disk is read, or refused in one clear line."""

from __future__ import annotations

import pytest

from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.records import find_records
from iaside_plugins.errors import InputError


@pytest.mark.parametrize(
    ("dataset", "first", "label", "n_classes"),
    [
        ("imagenet", "n01614925/imagenet_17_22.jpg", 22, 19),
        ("cifar10", "airplane/cifar10_03_0.png", 0, 8),
        ("cifar100", "apple/cifar100_09_0.png", 0, 18),
    ],
)
def test_images_of_foolbox(dataset: str, first: str, label: int, n_classes: int) -> None:
    pytest.importorskip("foolbox")
    records, space = find_records(f"foolbox:{dataset}")
    assert (len(records), space.name) == (20, dataset)
    assert (records[0].image_id, records[0].label) == (first, label)
    assert len({record.label for record in records}) == n_classes
    data = ImageFolderData(f"foolbox:{dataset}", resize=32, crop=32, n_images=3)
    assert sum(len(labels) for _, labels, _ in data) == 3


def test_images_of_foolbox_that_there_are_not() -> None:
    with pytest.raises(
        InputError, match=r"expected one of foolbox:imagenet, .*, got foolbox:mnist"
    ):
        find_records("foolbox:mnist")
