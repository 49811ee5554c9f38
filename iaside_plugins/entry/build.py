"""What an entry says: its name, and statistics with their interval and n, as JSON values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Split
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.entry.per_image import MOST, pack_bits
from iaside_plugins.importance.result import ATTRIBUTES, SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.stats.intervals import mean_interval, paired_change, wilson
from iaside_plugins.storage.provenance import ids_digest

SCHEMA_VERSION = 1
# Attributes of an importance that an entry leaves out, or holds in another form.
NOT_IN_ENTRY = {
    "n_classes",
    "clean_accuracy",
    "accuracy_shapley_values",
    "per_image",
    "values",
    "labels",
    "ids",
}
# What the ``benchmark`` group says of an entry made through RobustBench's interface.
CYCLED = "corruptions, each image under one cell in turn"
CLEAN = "clean"  # the accuracy before any attack
STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")  # of AutoAttack's version of this name
LISTED = "RobustBench's list"
WHOLE_LIST = 5000  # images in it
SELECTED_ALL = "all images there are"
SELECTED_FIRST = "the first of the test set"
SELECTED_RANDOM = "a random selection of those there are, seed {seed}"


def entry_id(
    dataset: str,
    model: str,
    protocol: Protocol,
    benchmark: str | None = None,
    selected: int | None = None,
) -> str:
    """Return the name of an entry and its file: data set, model and protocol, safe in a path.

    Args:
        dataset: Name of the data set.
        model: Name of the model.
        protocol: Of the spectral importance.
        benchmark: Host and threat model of an entry made inside another benchmark, such as
            "robustbench-Linf"; None for other entries.
        selected: How many images were taken where there are more, so that a model may have an
            entry of all images and one of a selection; None for all.
    """
    parts = (re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.") for part in (dataset, model))
    ends = [None if selected is None else f"n{selected}", benchmark]
    return "--".join([*parts, protocol.protocol_id, *filter(None, ends)])


def proportion(hits: npt.ArrayLike, *, by_image: bool = False) -> dict[str, Any]:
    """Return the share of true values with Wilson's 95 % interval and n.

    Args:
        hits: Flags (n,).
        by_image: Whether to say which they are too, up to `per_image.MOST` images.
    """
    flags = np.asarray(hits, dtype=bool)
    n, k = len(flags), int(flags.sum())
    found = {"value": k / n, "interval": list(wilson(k, n)), "n": n}
    return {**found, "images": pack_bits(flags)} if by_image and n <= MOST else found


def mean(values: npt.ArrayLike) -> dict[str, Any]:
    """Return the mean with its normal 95 % interval over images, and n."""
    value, interval = mean_interval(values)
    return {"value": value, "interval": list(interval), "n": len(np.asarray(values))}


def paired_error(before: npt.ArrayLike, after: npt.ArrayLike) -> dict[str, Any]:
    """Return the images whose answer turns wrong or right, and the error that adds.

    Args:
        before: Whether each image is classified correctly under the clean condition (n,).
        after: The same under another.
    """
    first, then = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    lost, gained = int((first & ~then).sum()), int((~first & then).sum())
    value, low, high = paired_change(lost, gained, len(first))
    return {
        "n_lost": lost,
        "n_gained": gained,
        "added": {"value": value, "interval": [low, high], "n": len(first)},
    }


def spectral_group(result: SpectralImportance) -> dict[str, Any]:
    """Return the entry's ``spectral`` group: means and intervals, no values of single images."""
    return {
        **{name: getattr(result, name) for name in ATTRIBUTES if name not in NOT_IN_ENTRY},
        "score_intervals": "jackknife-and-ties",
        "image_ids_sha256": ids_digest(result.ids),
        "band_edges": result.band_edges(),
        "ends": result.ends.mean(axis=0),
        "clean_accuracy": proportion(result.correct),
    }


def decomposition_group(result: ErrorDecomposition, ids: Sequence[str]) -> dict[str, Any]:
    """Return the entry's ``decomposition`` group: errors, no values of single images.

    Args:
        result: The decomposition.
        ids: Ids of the entry's images in their order, which those of the result are among.
    """
    taken = set(result.ids)
    return {
        "protocol": result.protocol.to_dict(),
        "n_images": result.n_images,
        "image_ids_sha256": ids_digest(name for name in ids if name in taken),
        "n_forward": result.n_forward,
        "efficiency_residual": result.efficiency_residual,
        "mean": _split(result.error.over()),
        "conditions": [
            {
                "condition": one.name,
                "level": None if one.level is None else float(one.level),
                **_split(result.error.over([one])),
            }
            for one in result.conditions
        ],
    }


def _split(split: Split) -> dict[str, Any]:
    return {
        "clean": split.clean.value,
        "bands": split.bands.value,
        "bands_interval": split.bands.interval,
        "perturbed": split.perturbed.value,
    }
