"""Checks of an entry's accuracies against one another: what counts the same images must agree."""

from __future__ import annotations

import math
from collections.abc import Iterator

from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.schema import (
    Adversarial,
    Corruption,
    Entry,
    Proportion,
    Spectral,
    Systematic,
)
from iaside_plugins.importance.chance import chance

Problems = Iterator[str]
CHANGES_IMAGES = ("rescale", "batch_modulus")  # the spectral importance then sees other images
HALF = ("float16", "bfloat16")
FAR_APART = 0.5  # of two accuracies on the same images before and after resizing or JPEG
ROUNDING = 1e-9
NATS_SLACK = 1e-3  # of a mean log-likelihood, for log-probabilities of low precision


def accuracy_problems(entry: Entry) -> Problems:
    """Yield accuracies that contradict one another or the log-likelihood beside them."""
    for parts, spectral in entry.spectra.items():
        yield from _likelihood(spectral, entry.model.n_classes, pointer(*parts))
    yield from _spectral(entry)
    yield from _chance(entry)
    if entry.corruption is not None:
        yield from _uncorrupted(entry, entry.corruption)
    if entry.systematic is not None:
        yield from _own_reading(entry, entry.systematic)
    if entry.adversarial is not None:
        yield from _robust(entry.clean_accuracy, entry.adversarial)


def _chance(entry: Entry) -> Problems:
    """Compute again what an entry says of its clean accuracy and guessing."""
    said, clean = entry.chance, entry.clean_accuracy
    if said is None:
        return
    n_classes = entry.model.n_classes or round(1 / max(said.level, ROUNDING))
    expected = chance(clean.count, clean.n, n_classes)
    for name in ("level", "p", "above"):
        if abs(getattr(said, name) - expected[name]) > ROUNDING:
            yield (
                f"/chance/{name}: expected {expected[name]!r} for {_of(clean)} classified "
                f"correctly, got {getattr(said, name)!r}"
            )


def _of(part: Proportion) -> str:
    return f"{part.count} of {part.n} images"


def _likelihood(spectral: Spectral, n_classes: int | None, home: str) -> Problems:
    """Compare an accuracy with the mean log-likelihood of the same images.

    A misclassified image has a probability of at most 1/2, at any temperature, as another class
    has no less; one that is classified correctly has at least 1 / n_classes.
    """
    right, n, mean = spectral.clean_accuracy.count, spectral.clean_accuracy.n, spectral.ends[1]
    place = f"{home}/clean_accuracy/value"
    if mean - NATS_SLACK > -(n - right) / n * math.log(2):
        least = math.ceil(n * (1 + (mean - NATS_SLACK) / math.log(2)))
        yield (
            f"{place}: expected at least {least} of {n} images, as a wrong one has at most "
            f"log(1/2) and the mean of all is {mean:.6g} nats; got {_of(spectral.clean_accuracy)}"
        )
    if n_classes is not None and right == n and mean + NATS_SLACK < -math.log(n_classes):
        yield (
            f"{home}/ends/1: expected at least log(1/{n_classes}) with all images right, "
            f"got {mean:.6g}"
        )


def _slack(entry: Entry) -> int:
    """Return how many images two passes over the same may class otherwise, by rounding alone."""
    n, spectral = entry.data.n_images, entry.spectral
    if spectral.precision in HALF:
        return 1 + n // 20
    if spectral.forwards or entry.protocol.forwards != "plain" or entry.provenance.device != "cpu":
        return 1 + n // 200
    return n // 1000


def _spectral(entry: Entry) -> Problems:
    """Compare the accuracy beside the spectral importance with the clean one."""
    if entry.protocol.range_handling in CHANGES_IMAGES:
        return
    place, slack = "/spectral/clean_accuracy/value", _slack(entry)
    own, whole = entry.spectral.clean_accuracy, entry.clean_accuracy
    if own.n > whole.n:
        return  # a problem of counts
    if own.n == whole.n and entry.spectral.image_ids_sha256 == entry.data.image_ids_sha256:
        if abs(own.count - whole.count) > slack:
            yield (
                f"{place}: expected {_of(whole)}, as /clean_accuracy says of the same, "
                f"got {_of(own)}"
            )
        return
    most, least = whole.count, own.n - (whole.n - whole.count)
    if not least - slack <= own.count <= most + slack:
        yield (
            f"{place}: expected from {max(0, least)} to {min(own.n, most)} of {own.n}, as "
            f"/clean_accuracy is {_of(whole)}, these among them; got {_of(own)}"
        )


def _uncorrupted(entry: Entry, corruption: Corruption) -> Problems:
    """Compare the accuracy on uncorrupted images with the clean one.

    They are the same images; the uncorrupted ones may have been resized and cropped as the
    corrupted ones are.
    """
    own, clean = corruption.uncorrupted_accuracy, entry.clean_accuracy
    if own.n != clean.n:
        return
    place = "/corruption/uncorrupted_accuracy/value"
    if _same_input(entry, corruption):
        if abs(own.count - clean.count) > _slack(entry):
            yield (
                f"{place}: expected {_of(clean)}, as /clean_accuracy says of the same without "
                f"resizing or JPEG, got {_of(own)}"
            )
    elif abs(own.value - clean.value) > FAR_APART:
        yield (
            f"{place}: expected at most {FAR_APART:.0%} from {_of(clean)} of /clean_accuracy, "
            f"got {_of(own)}"
        )


def _own_reading(entry: Entry, systematic: Systematic) -> Problems:
    """Compare the accuracy of the model's own reading with the clean one, of no fewer images."""
    own, clean, slack = systematic.own_accuracy, entry.clean_accuracy, _slack(entry)
    most, least = clean.count, clean.count - (clean.n - own.n)
    if own.n <= clean.n and not least - slack <= own.count <= most + slack:
        yield (
            f"/systematic/own_accuracy/value: expected {_of(clean)}, as /clean_accuracy says of "
            f"the same, got {_of(own)}"
        )


def _same_input(entry: Entry, corruption: Corruption) -> bool:
    """Return whether uncorrupted images are the model's clean input to the pixel."""
    height, width = entry.spectral.image_size
    size = corruption.size
    return (
        entry.benchmark is None
        and corruption.source == "generated"
        and not corruption.jpeg
        and (size is None or size == height == width)
        and entry.model.preprocessing.resize in (None, size)
    )


def _robust(clean: Proportion, adversarial: Adversarial) -> Problems:
    """Yield robust accuracies above the clean one: a robust image is right without an attack too.

    The attacked images are some or all of the clean ones.
    """
    most = clean.count
    found = [("attacks", k, attack.accuracy) for k, attack in enumerate(adversarial.attacks)]
    found += [("worst_case", k, case.accuracy) for k, case in enumerate(adversarial.worst_case)]
    for name, k, robust in found:
        if robust.count > most:
            yield (
                f"{pointer('adversarial', name, k, 'accuracy', 'value')}: expected at most "
                f"{_of(clean)}, as an image counts as robust if it is right without the attack "
                f"too; got {_of(robust)}"
            )
