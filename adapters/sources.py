"""One model and its images, as the command line and the demo open them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.choices import pick_device
from iaside_plugins.adapters.imagenet import ImageFolderData, find_records, select
from iaside_plugins.adapters.models import Classifier, load_model
from iaside_plugins.errors import InputError


@dataclass(frozen=True)
class Source:
    """Where images come from, and which of them are taken.

    Attributes:
        root: Folder of class folders, or a CSV manifest.
        labels: "auto", or "rank" to number folders by their rank.
        classes: File of class names, one a line.
        n_images: How many to take, seeded; None for all.
        seed: Of the selection.
        workers: Processes that decode.
        batch_size: Images in one batch.
        name: Of the data set, instead of what its labels say.
        note: What the entry should say of the images.
    """

    root: Path
    labels: str = "auto"
    classes: Path | None = None
    n_images: int | None = None
    seed: int = 0
    workers: int = 0
    batch_size: int = 64
    name: str | None = None
    note: str | None = None


def open_model(
    spec: str, *, device: str = "auto", name: str | None = None, training: str | None = None,
    precision: str = "float32", **options: Any,
) -> Classifier:  # fmt: skip
    """A classifier on its device, with the name and training that the entry shall say.

    Args:
        spec: As for `load_model`.
        device: "auto", "cpu" or "cuda[:i]".
        name: Instead of the model's own name.
        training: How it was trained, instead of what its source says.
        precision: "float64" makes the weights double; others leave them.
        options: Of `load_model`.

    Raises:
        InputError: As `load_model` and `pick_device`.
    """
    target = pick_device(device)
    model = load_model(spec, **options)
    info = model.info
    model.info = dataclasses.replace(
        info, name=name or info.name, training=training or info.training
    )
    return model.to(target, torch.float64 if precision == "float64" else None)


def is_grey(model: nn.Module) -> bool:
    """Whether the first convolution of a model reads one channel."""
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    return first is not None and first.in_channels == 1


def open_images(source: Source, model: Classifier, n_images: int | None = None) -> ImageFolderData:
    """The images of a source as the model takes them, at most `n_images` of the selected ones.

    Raises:
        InputError: For folders or labels that cannot be used, or labels out of range.
    """
    records, space = find_records(source.root, labels=source.labels, classes=source.classes)
    records = select(records, source.n_images, source.seed)
    records = select(records, n_images, source.seed)
    # Only what the network itself says: the width of some layer may not be that of the logits.
    n_classes = getattr(model.net, "num_classes", None)
    if isinstance(n_classes, int) and max(record.label for record in records) >= n_classes:
        raise InputError(
            f"the images have labels up to {max(record.label for record in records)} "
            f"({space.name}), but the model has {n_classes} outputs; check --labels and --classes"
        )
    taken = model.info.preprocessing
    return ImageFolderData(
        source.root, resize=taken.resize, crop=taken.crop, interpolation=taken.interpolation,
        records=records, label_space=space, batch_size=source.batch_size, n_workers=source.workers,
        grey=is_grey(model),
    )  # fmt: skip
