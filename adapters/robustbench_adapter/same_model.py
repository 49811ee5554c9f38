"""Whether the model that goes on with a kept run is the one that began it, by its answers.

A digest of the weights does not see what a model keeps outside its state, such as a number in an
attribute or the code of its forward method; its logits of a few images do.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from iaside_plugins.entry.robustbench_json import read
from iaside_plugins.errors import InputError
from iaside_plugins.storage.row_store import write_json

FILE = "model.json"
TOLERANCE = 1e-3  # of the greatest logit: more than devices and sizes of batches change


def check_same_model(
    folder: Path, kind: str, logits: Mapping[str, Sequence[float]], *, ours: bool
) -> None:
    """Note a model's logits in a folder of unfinished work, or compare them with those there.

    Args:
        folder: The folder.
        kind: What else tells runs apart (digest of the weights, device, precision); runs of
            another kind are not compared.
        logits: Digest of an image -> logits.
        ours: Whether the folder is in the cache and may be emptied, so that the run starts anew.

    Raises:
        InputError: The folder is the user's, and was begun with another model.
    """
    kept = read(folder / FILE)
    known = kept.get(kind, {})
    if any(not _same(known[name], row) for name, row in logits.items() if name in known):
        if not ours:
            raise InputError(
                f"{folder} holds the work of another model: it has the same class and weights, and "
                "its logits of the same images are others now; give another folder"
            )
        shutil.rmtree(folder, ignore_errors=True)
        kept, known = {}, {}
    write_json(folder / FILE, {**kept, kind: {**known, **logits}}, indent=None)


def _same(before: Sequence[float], now: Sequence[float]) -> bool:
    old, new = np.asarray(before), np.asarray(now)
    if old.shape != new.shape:
        return False
    return bool(np.abs(old - new).max() <= TOLERANCE * np.abs(old).max())
