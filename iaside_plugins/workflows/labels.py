"""Labels that depend on the model: of some of its classes only, or its own predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from iaside_plugins.adapters.imagenet.labels import LabelSpace
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import PREDICTED as PREDICTED
from iaside_plugins.inference.checks import check_images, model_device

PREDICTED_WORDS = (
    "labels: the model's own predictions on the clean images. Nothing below says how often it is "
    "right: its clean error is 0 by construction, and an error is a prediction that changes"
)
_N_SUBSET = 200  # classes of ImageNet-R, ImageNet-A and others like them
_log = logging.getLogger(__name__)

Listing = tuple[list[ImageRecord], LabelSpace]


def with_words(label_space: str, found: dict[str, Any], text: str) -> tuple[dict[str, Any], str]:
    """Return a result's JSON and text, which say so where labels are predictions.

    Args:
        label_space: What the labels are.
        found: JSON values.
        text: What is printed.
    """
    if label_space != PREDICTED:
        return found, text
    return {**found, "label_space": PREDICTED}, f"{PREDICTED_WORDS}\n{text}"


def check_labels_are_given(labels: str, what: str) -> None:
    """Raise InputError for predictions as labels where nothing may be said of them.

    Args:
        labels: Way to get labels.
        what: What needs others.
    """
    if labels == PREDICTED:
        raise InputError(
            f"{what} needs images with labels: labels='predicted' is for profile, explain, "
            "heatmap and compare"
        )


def classes_of_model(listing: Listing, model: Classifier) -> Listing:
    """Return images of some of ImageNet's classes with the labels of a model of just these.

    Such a model, as for Tiny-ImageNet, has its outputs in the order of the WordNet ids; that is
    said. For a model of all classes it is said how sets of 200 classes are scored. Other listings
    are returned as they are.
    """
    records, space = listing
    present = sorted({record.label for record in records})
    if space.name != "imagenet" or len(present) == space.n_classes:
        return listing
    if model.info.n_classes == len(present):
        _log.warning(
            "%s has %d outputs, and the images are of %d of ImageNet's classes: its outputs are "
            "taken as these in the order of their WordNet ids; else give classes=FILE",
            model.info.name,
            len(present),
            len(present),
        )
        return _relabelled(records, space, present, "rank")
    if len(present) == _N_SUBSET:
        _log.warning(
            "the images are of 200 of ImageNet's classes: papers on ImageNet-R and ImageNet-A "
            "score them among these outputs only, here among all; restrict_classes=True does as "
            "they do"
        )
    return listing


def restricted(listing: Listing, model: Classifier) -> Listing:
    """Restrict a model to the classes that have images, and return these with its labels.

    Raises:
        InputError: Images of a single class, or labels that the model has no output for.
    """
    records, space = listing
    present = sorted({record.label for record in records})
    model.restrict(present)
    _log.warning("only %d of the model's outputs count: those of the images' classes", len(present))
    return _relabelled(records, space, present, f"{space.name}-{len(present)}")


def _relabelled(
    records: Sequence[ImageRecord], space: LabelSpace, present: Sequence[int], name: str
) -> Listing:
    """Return records with labels that number the classes that are present."""
    index = {label: k for k, label in enumerate(present)}
    names = tuple(space.names[label] for label in present)
    new = [replace(one, label=index[one.label], stored_label=one.label) for one in records]
    return new, LabelSpace(name, len(present), names)


def predicted(records: Sequence[ImageRecord], batches: Iterable[Any], model: Classifier) -> Listing:
    """Return records with the model's predictions as labels; of unreadable images they stay.

    Args:
        records: The images.
        batches: (images, labels, ids) of the same images, clean.
        model: The classifier.
    """
    device = model_device(model)
    found: dict[str, int] = {}
    n_classes = 1
    for images, _, ids in batches:
        check_images(images)
        with torch.no_grad():
            logits = model(images.to(device))
        n_classes = logits.shape[1]
        found.update(zip(ids, logits.argmax(dim=1).tolist(), strict=True))
    labelled = [replace(one, label=found.get(one.image_id, 0), stored_label=-1) for one in records]
    names = tuple(str(k) for k in range(n_classes))
    return labelled, LabelSpace(PREDICTED, n_classes, names)
