"""Batches as loaders give them: tuples, longer tuples, mappings."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from iaside_plugins import (
    Protocol,
    SpectralPartition,
    error_decomposition,
    fourier_heatmap,
    spectral_importance,
)
from iaside_plugins.errors import InputError
from iaside_plugins.value_table.stream import batches

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
PROTOCOL = Protocol(n_bands=3)


class Rows(Dataset[Any]):
    """Images as a data set of Hugging Face gives them: a mapping each."""

    def __init__(self, image: str, label: str | None) -> None:
        self.names = image, label

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, k: int) -> dict[str, Any]:
        image, label = self.names
        return {image: IMAGES[k], "caption": "x"} | ({label: LABELS[k]} if label else {})


def _net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()


@pytest.mark.parametrize(
    ("image", "label"),
    [("image", "label"), ("pixel_values", "labels"), ("images", "labels"), ("img", "fine_label")],
)
def test_loaders_that_yield_mappings(image: str, label: str) -> None:
    expected = spectral_importance(_net(), (IMAGES, LABELS), PROTOCOL)
    found = spectral_importance(_net(), DataLoader(Rows(image, label), batch_size=4), PROTOCOL)
    assert (found.per_image == expected.per_image).all()
    assert found.ids == expected.ids


def test_ids_in_mappings_and_data_that_are_one() -> None:
    data = UserDict(images=IMAGES, labels=LABELS, ids=list("abcdef"))  # as of an image processor
    result = spectral_importance(_net(), data, PROTOCOL)
    assert list(result.ids) == list("abcdef")


def test_ids_may_be_rows_of_numbers_as_wilds_has_them() -> None:
    data = [(IMAGES, LABELS, torch.arange(12).view(6, 2))]
    assert spectral_importance(_net(), data, PROTOCOL).ids[:2] == ("[0, 1]", "[2, 3]")


def test_copies_of_images_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A sampler that draws with replacement: intervals would take copies for other images."""
    drawn = torch.tensor([0, 1, 2, 0, 4, 0])
    chains = Protocol(n_bands=2, estimator="permutation")
    for run in (
        lambda x, y: spectral_importance(_net(), (x, y), PROTOCOL),
        lambda x, y: fourier_heatmap(_net(), (x, y), partition=SpectralPartition(2)),
        lambda x, y: error_decomposition(_net(), (x, {"dark": x / 2, "pale": x / 3}, y), chains),
    ):
        caplog.clear()
        run(IMAGES, LABELS)
        assert "copies" not in caplog.text
        run(IMAGES[drawn], LABELS[drawn])
        assert len([m for m in caplog.messages if " are copies of others: " in m]) == 1


def test_a_run_that_stops_among_sorted_classes_is_said(caplog: pytest.LogCaptureFixture) -> None:
    images = torch.rand(15, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(15) // 6
    chains = Protocol(n_bands=2, estimator="permutation")
    shuffled = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    for run in (
        lambda x, y, n: spectral_importance(_net(), (x, y), PROTOCOL, max_images=n),
        lambda x, y, n: fourier_heatmap(
            _net(), (x, y), partition=SpectralPartition(2), max_images=n
        ),
        lambda x, y, n: error_decomposition(_net(), (x, x / 2, y), chains, max_images=n),
    ):
        caplog.clear()
        run(images, labels, None)
        run(images, labels, 15)
        run(images[shuffled], labels[shuffled], 12)
        assert "class by class" not in caplog.text
        run(images, labels, 12)
        assert "12 images that were taken come class by class, and are of 2 of 3" in caplog.text


def test_longer_tuples_are_said(caplog: pytest.LogCaptureFixture) -> None:
    given = [(IMAGES, LABELS, torch.arange(6), "more")] * 2
    assert all(len(batch) == 2 and batch[0] is IMAGES for batch in batches(given))
    assert caplog.messages == ["of batches of 4 fields the first two are images and labels"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"image": IMAGES}], "got a mapping of image: give the labels as one of labels, label"),
        ([{"x": IMAGES, "label": LABELS}], "mapping of x, label: give the images as one of images"),
        ([[IMAGES]], r"expected batches of \(images, labels\) .* got list of 1; labels are needed"),
        ([IMAGES], "got Tensor; labels are needed"),
    ],
)
def test_batches_without_labels_or_images(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spectral_importance(_net(), data, PROTOCOL)


def test_pairs_that_are_mappings() -> None:
    noisy = (IMAGES + 0.2).clamp(0, 1)
    expected = error_decomposition(_net(), (IMAGES, noisy, LABELS), Protocol(n_bands=3))
    pairs = [{"perturbed": noisy, "clean": IMAGES, "label": LABELS}]
    found = error_decomposition(_net(), pairs, Protocol(n_bands=3))
    assert (found.wrong == expected.wrong).all()
    with pytest.raises(InputError, match="mapping of clean, label: give the perturbed as one of"):
        error_decomposition(_net(), [{"clean": IMAGES, "label": LABELS}], Protocol(n_bands=3))


@pytest.mark.parametrize("names", [("label", "fine_label"), ("label", "labels")])
def test_two_fields_of_labels_are_not_guessed_between(names: tuple[str, str]) -> None:
    batch = {"image": torch.rand(2, 3, 8, 8), **dict.fromkeys(names, torch.zeros(2).long())}
    with pytest.raises(InputError, match=r"and only one of them can be meant: leave out the other"):
        list(batches([batch]))
