"""What the work of a command costs with its images, from a few timed tries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.corruptions.apply import corrupt
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.gradients import try_first_gradient
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.speed import Speed, median_seconds, speed_of

SEVERITY = 3  # of the corruptions that are timed


def probed(
    model: Classifier | None,
    images: Any,
    *,
    protocol: Protocol | None = None,
    corruptions: CorruptionPlan | None = None,
    gradients: bool = False,
    n_devices: int = 1,
    **options: Any,
) -> Speed:
    """Return what each kind of work costs with these images.

    Args:
        model: The model, or None where there is none: then images are only made.
        images: The images, as `ImageFolderData`; the first batch is read.
        protocol: Of the coalitions, if there are any.
        corruptions: Corruptions that may have to be made.
        gradients: Whether attacks need them, so that they are tried first.
        n_devices: Devices that share the work, with the processes that make images.
        options: Others of `speed_of`.

    Raises:
        InputError: The model fails, has another number of outputs than there are classes, or gives
            no gradients where they are needed.
    """
    shape = tuple(next(iter(images))[0].shape[1:])
    speed = Speed()
    if model is not None:
        n = len(images.records)
        if gradients:
            try_first_gradient(model, images, model_device(model))
        known = KnownClasses.of(images)
        given: dict[str, Any] = {"protocol": protocol, "n_devices": n_devices, **options}
        speed = speed_of(model, shape, n_images=n, classes=known, **given)
    if corruptions is None or "corrupted" not in corruptions.work:
        return speed
    made = corruption_seconds(corruptions.names, corruptions.settings)
    forward = n_devices * speed.seconds.get("forward", 0.0)  # of one of them
    added_by = beside_passes(made, images.n_workers // n_devices, forward) / n_devices
    return replace(speed, seconds={**speed.seconds, "corrupted": added_by})


def planned(model: Classifier | None, images: Any, protocol: Protocol | None) -> dict[str, Any]:
    """Return model, number of images and protocol, for the plan of a dry run."""
    found: dict[str, Any] = {} if model is None else {"model": model.info.to_dict()}
    found["images"] = len(images.records)
    if protocol is not None:
        found["protocol"] = {**protocol.to_dict(), "protocol_id": protocol.protocol_id}
    return found


def shorter_importance(protocol: Protocol, fewer: str) -> str:
    """Return what would make an importance shorter.

    Args:
        protocol: Its protocol.
        fewer: Options that take fewer images.
    """
    if protocol.estimator == "exact" and not protocol.is_script:
        sampled = replace(protocol, estimator="permutation", n_permutations=4)
        passes, fewest = (RowLayout(one).n_passes for one in (protocol, sampled))
        if 2 * fewest < passes:
            return (
                "--protocol estimator=permutation,n_permutations=4 takes about "
                f"{fewest} passes an image instead of {passes}"
            )
    return f"fewer images, {fewer}"


def corruption_seconds(names: Sequence[str], settings: Mapping[str, Any]) -> float:
    """Return the seconds of corrupting one image, the mean over the corruptions but frost.

    Args:
        names: The corruptions.
        settings: Size and JPEG, as of a plan.
    """
    side = int(settings["size"])
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    timed = [name for name in names if name != "frost"] or ["fog"]

    def run() -> None:
        for name in timed:
            corrupt(image, name, SEVERITY, seed=0, jpeg=bool(settings["jpeg"]))

    run()  # imports what they need
    return median_seconds(run) / len(timed)


def beside_passes(made: float, n_workers: int, forward: float) -> float:
    """Return the seconds that making an image adds to its pass, by processes beside the model."""
    return made if n_workers == 0 else max(0.0, made / n_workers - forward)
