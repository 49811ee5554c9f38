"""Images as RobustBench lays them out, and any others: one object for clean and corrupted ones.

ImageNet: `data_dir/val/<wnid>/<file>`; corrupted `<dir>/ImageNet-C/<corruption>/<severity>/...`
and `ImageNet-3DCC/...`, flat or in the groups of the archives. CIFAR: the pickled archives of the
data set and `CIFAR-10-C/<corruption>.npy`. Also any folder of class folders and any CSV manifest.
RobustBench's order and first n where its 5000 listed files are there, else a seeded selection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.adapters.imagenet.cifar import ArrayImages, read_cifar, read_cifar_c
from iaside_plugins.adapters.models.robustbench_names import Threat
from iaside_plugins.adapters.models.robustbench_preprocessing import Geometry
from iaside_plugins.adapters.robustbench_adapter.files import ImageFiles
from iaside_plugins.adapters.robustbench_adapter.images import (
    BenchmarkImages,
    Part,
    corruption_settings,
    part_of,
)
from iaside_plugins.entry.build import SELECTED_FIRST
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images


def open_images(
    threat: Threat,
    n: int,
    data_dir: Path | str,
    corruptions_data_dir: Path | str | None,
    geometry: Geometry,
    corrupted: Geometry,
    *,
    batch_size: int,
    n_workers: int = 0,
    seed: int = 0,
    cache: Path | str | None = None,
) -> BenchmarkImages:
    """Find and check every file of a run before any of it is decoded.

    Args:
        threat: Data set and threat model.
        n: Images to take.
        data_dir: RobustBench's data folder, a folder of class folders, or a CSV manifest.
        corruptions_data_dir: Where the corrupted ones are; None for `data_dir`; "generate" to make
            the 15 of ImageNet-C here, from image files.
        geometry: Of the clean images.
        corrupted: Of the corrupted ones.
        batch_size: Images per batch.
        n_workers: Worker processes that decode.
        seed: Of the selection, where RobustBench's list is not there, and of corruptions made here.
        cache: Folder that keeps corrupted images made here, for the next model.

    Raises:
        InputError: Nothing there, fewer than `n` images, a corruption, severity, class folder or
            file that is missing, or labels that are not those of the data set.
    """
    if type(n) is not int or n < 1:
        raise InputError(f"n_examples must be an integer of at least 1, got {n!r}")
    root = Path(data_dir)
    archive = None if threat.dataset == "imagenet" else read_cifar(root, threat.dataset)
    if archive is not None:
        return _arrays(threat, n, archive, Path(corruptions_data_dir or root), batch_size)
    return ImageFiles(
        threat,
        n,
        root,
        Path(corruptions_data_dir or root),
        geometry,
        corrupted,
        batch_size,
        n_workers,
        seed,
        cache,
    ).found()


def _arrays(
    threat: Threat, n: int, archive: tuple[Any, Any], corrupted_root: Path, batch_size: int
) -> BenchmarkImages:
    """The first n images of a CIFAR archive, in its order, and of its corrupted arrays."""
    pixels, labels = archive
    if n > len(labels):
        raise InputError(
            f"n_examples={n}, and there are {len(labels)} images in the test set; give as many or "
            "fewer"
        )
    ids = tuple(f"test/{k:05d}" for k in range(n))
    arrays = {}
    for name in threat.corruptions:
        arrays[name] = read_cifar_c(corrupted_root, threat.dataset, name, labels[:n])

    def clean(part: Part) -> Images:
        chosen = np.arange(n) if part is None else np.asarray(part)
        return ArrayImages(pixels, labels, chosen, part_of(ids, part), batch_size)

    def cell(name: str | None, severity: int, part: Part) -> Images | None:
        if name is None:
            return None
        chosen = np.arange(n) if part is None else np.asarray(part)
        array = arrays[name]
        rows = array[(severity - 1) * (len(array) // 5) :]
        return ArrayImages(rows, labels, chosen, part_of(ids, part), batch_size)

    selection = SELECTED_FIRST
    settings = corruption_settings(threat, 0)
    return BenchmarkImages(threat, ids, len(labels), selection, clean, cell, settings)
