"""One model and its images, as the command line and the demo open them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.labels import (
    KNOWN_MAPS,
    LabelSpace,
    UnknownClassesError,
    model_classes,
)
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.records import UNLABELLED, find_records, select
from iaside_plugins.adapters.imagenet.sources.source import Listing
from iaside_plugins.adapters.models.load import Classifier, load_model
from iaside_plugins.devices import pick_devices
from iaside_plugins.errors import InputError
from iaside_plugins.inference.quantised import is_quantised, quantised_parts
from iaside_plugins.workflows.labels import PREDICTED, classes_of_model, predicted, restricted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """Where images come from, and which of them are taken.

    Attributes:
        root: Class folders, or images stored in another way, see `find_records`.
        labels: "auto", "rank" to number folders by their rank, or "predicted": the model's own
            predictions on the clean images are the labels.
        classes: File of class names, one a line.
        n_images: How many to take, seeded; None for all.
        seed: Of the selection.
        workers: Processes that decode.
        batch_size: Images in one batch.
        name: Of the data set, instead of what its labels say.
        note: What the entry should say of the images.
        restrict_classes: Whether only the model's outputs for the classes that have images count,
            as sets of 200 of ImageNet's classes are scored.
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
    restrict_classes: bool = False

    def which(self) -> tuple[str, ...]:
        """Return what determines the images and their labels, to identify unfinished work."""
        root = self.root.resolve() if self.root.exists() else self.root  # "foolbox:imagenet"
        chosen = (root, self.labels, self.classes, self.n_images, self.seed)
        restricted = ("restricted",) if self.restrict_classes else ()
        return (*map(str, chosen), *restricted)


def open_model(
    spec: str,
    *,
    device: str = "auto",
    name: str | None = None,
    training: str | None = None,
    precision: str = "float32",
    **options: Any,
) -> Classifier:
    """Return a classifier on its device, with the name and training for the entry.

    Args:
        spec: As for `load_model`.
        device: "auto", "cpu" or "cuda[:i]"; of several, "cuda:0,cuda:1", the first.
        name: Instead of the model's own name.
        training: How it was trained, instead of what its source says.
        precision: "float64" makes the weights double; others leave them.
        options: Of `load_model`.

    Raises:
        InputError: As `load_model` and `pick_devices`, or a model that runs on the CPU only for
            another device.
    """
    target, _ = pick_devices(device)
    model = load_model(spec, **options)
    if target.type != "cpu" and is_quantised(model):
        if device != "auto":
            raise InputError(f"device={device}: modules of 8-bit integers run on the CPU only")
        target = torch.device("cpu")
    info = model.info
    model.info = dataclasses.replace(
        info, name=name or info.name, training=training or info.training
    )
    return model.to(target, torch.float64 if precision == "float64" else None)


def is_grey(model: nn.Module) -> bool:
    """Whether a model reads one channel, by its `in_channels` or by its first convolution."""
    said = getattr(getattr(model, "net", None), "in_channels", None)
    if isinstance(said, int):
        return said == 1
    of_8_bits = {id(part) for part in quantised_parts(model)}
    layers = (p for p in model.modules() if isinstance(p, nn.Conv2d) or id(p) in of_8_bits)
    channels = (getattr(layer, "in_channels", None) for layer in layers)
    return next((one for one in channels if isinstance(one, int)), None) == 1


def find_images(source: DataSource, model: Classifier) -> tuple[list[ImageRecord], LabelSpace]:
    """Return all images of a source, with labels that are the model's.

    With `source.restrict_classes` the model is restricted to their classes. With
    `source.labels="predicted"` the labels are 0 until `predicted` sets them.

    Raises:
        InputError: For folders or labels that cannot be used, labels of another data set than
            the model's, or labels out of its range.
    """
    if source.labels == PREDICTED:
        if source.restrict_classes or source.classes is not None:
            raise InputError(
                "labels='predicted' takes all of the model's outputs: it does not go with "
                "classes=FILE or restrict_classes"
            )
        return find_records(source.root, labels=UNLABELLED)
    records, space = _labelled(source, model)
    trained_on = model.info.dataset
    if trained_on in KNOWN_MAPS and space.name in KNOWN_MAPS and space.name != trained_on:
        raise InputError(
            f"{model.info.name} is a classifier of {trained_on}, the folders are classes of "
            f"{space.name}; give its own images, or classes=FILE if its outputs mean these"
        )
    if source.restrict_classes:
        return restricted((records, space), model)
    if source.labels == "auto":
        records, space = classes_of_model((records, space), model)
    # Only what the network itself says: the width of some layer may not be that of the logits.
    n_classes = getattr(model.net, "num_classes", None)
    largest = max(record.label for record in records)
    if isinstance(n_classes, int) and largest >= n_classes:
        raise InputError(
            f"the images have labels up to {largest} ({space.name}), but the model has "
            f"{n_classes} outputs; check labels=... and classes=..."
        )
    return records, space


def _labelled(source: DataSource, model: Classifier) -> Listing:
    """Return the images of a source, labelled in the order in which the model names its outputs.

    Where the model names none, or others, the order is that of `find_records`.
    """
    given: dict[str, Any] = {"labels": source.labels, "classes": source.classes}
    if source.labels != "auto" or source.classes is not None or not model.class_names:
        return find_records(source.root, **given)
    try:
        own = find_records(source.root, classes=model_classes(model.class_names))
    except UnknownClassesError:
        found = find_records(source.root, **given)
        if found[1].name == "names":
            _log.warning(
                "classes: in the order of the data (%s, ...); %s names its outputs otherwise "
                "(%s, ...), which may be another order: give classes=FILE then",
                found[1].names[0],
                model.info.name,
                model.class_names[0],
            )
        return found
    with contextlib.suppress(UnknownClassesError):
        known = find_records(source.root, **given)
        if [record.label for record in known[0]] == [record.label for record in own[0]]:
            return known
    _log.warning("classes: in the order in which %s names its outputs", model.info.name)
    return own


def open_images(
    source: DataSource,
    model: Classifier,
    n_images: int | None = None,
    *,
    shuffled: bool = False,
    listing: tuple[list[ImageRecord], LabelSpace] | None = None,
) -> ImageFolderData:
    """Return the images of a source as the model takes them, at most `n_images` of the selected.

    Args:
        source: Where the images come from.
        model: What takes them.
        n_images: At most so many of those that the source selects.
        shuffled: In a seeded random order instead of sorted by class: for runs that may stop
            early, which must not see some classes only.
        listing: Result of `find_images`, if it has been called already.

    Raises:
        InputError: See `find_images`.
    """
    records, space = listing or find_images(source, model)
    records = select(select(records, source.n_images, source.seed), n_images, source.seed)
    if shuffled:
        order = np.random.default_rng(source.seed).permutation(len(records))
        records = [records[k] for k in order]
    own, grey = model.info.preprocessing, is_grey(model)
    images = shaped_images(source, own, records, space, grey=grey)
    return with_predictions(source, images, model)


def with_predictions(
    source: DataSource, images: ImageFolderData, model: Classifier, plain: Any = None
) -> ImageFolderData:
    """Return images with the model's predictions as labels, if the source wants these.

    Args:
        source: Where the images come from.
        images: The images as the model takes them.
        model: What takes them.
        plain: The same images uncorrupted in the geometry of corrupted ones, which are predicted
            instead; None for the images themselves.
    """
    if source.labels != PREDICTED:
        return images
    records, space = predicted(images.records, images if plain is None else plain, model)
    return shaped_images(source, model.info.preprocessing, records, space, grey=images.grey)


def shaped_images(
    source: DataSource,
    taken: Preprocessing,
    records: Sequence[ImageRecord],
    space: LabelSpace,
    *,
    grey: bool = False,
) -> ImageFolderData:
    """Return images of a source with the resize and crop of a preprocessing."""
    return ImageFolderData(
        source.root,
        resize=taken.resize,
        crop=taken.crop,
        interpolation=taken.interpolation,
        records=records,
        label_space=space,
        batch_size=source.batch_size,
        n_workers=source.workers,
        grey=grey,
    )
