"""Which images there are and what their labels are; selections of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iaside_plugins.adapters.imagenet.labels import Classes
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.remote import local_or_remote
from iaside_plugins.adapters.imagenet.sources.cifar_archive import (
    is_cifar_archive,
    read_cifar_archive,
)
from iaside_plugins.adapters.imagenet.sources.class_folders import read_class_folders
from iaside_plugins.adapters.imagenet.sources.flat_validation import (
    is_flat_validation,
    read_flat_validation,
)
from iaside_plugins.adapters.imagenet.sources.foolbox_images import (
    is_foolbox_images,
    read_foolbox_images,
)
from iaside_plugins.adapters.imagenet.sources.manifest import read_manifest
from iaside_plugins.adapters.imagenet.sources.parquet import is_parquet, read_parquet
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing, Source
from iaside_plugins.adapters.imagenet.sources.tar_shards import is_tar, read_tar
from iaside_plugins.adapters.imagenet.sources.tiny_imagenet import (
    is_tiny_imagenet,
    read_tiny_imagenet,
)
from iaside_plugins.errors import InputError

__all__ = ["SOURCES", "UNLABELLED", "ImageRecord", "find_records", "select", "source_of"]


def find_records(root: Path | str, *, labels: str = "auto", classes: Classes = None) -> Listing:
    """Return the images of a data set in any of the ways of `SOURCES`, class folders for one.

    A CSV manifest has the header `path,label` (more columns are ignored). Relative paths start at
    its folder; a label is a class name that `labels` or `classes` resolves, or an index.

    Args:
        root: Folder or file, or a URL that fsspec reads, such as s3://bucket/val.
        labels: How class names become indices, see `labels.class_map`; `UNLABELLED` for class
            folders whose labels nobody reads.
        classes: File of classes, see `labels.read_classes`.

    Returns:
        Records, sorted by folder and file name (a manifest's keep its order), and what their
        labels mean.

    Raises:
        InputError: Nothing at `root`, no images, unknown classes; with the line for manifests.
    """
    root = local_or_remote(root)
    return source_of(root).read(root, labels, classes)


def source_of(root: Path) -> Source:
    """Return the way in which a data set is stored.

    Raises:
        InputError: Nothing at `root`.
    """
    root = local_or_remote(root)
    for source in SOURCES:
        if source.matches(root):
            return source
    known = ", ".join(source.name for source in SOURCES)
    raise InputError(f"there is no folder or file {root}; expected one of: {known}")


def select(records: Sequence[ImageRecord], n: int | None, seed: int) -> list[ImageRecord]:
    """Return a random selection without replacement, in the order of `records`.

    The first n of one seeded permutation: a larger n with the same seed contains the smaller one.

    Args:
        records: All records.
        n: Size of the selection; all records for None or for any n of at least their number.
        seed: Seed of numpy's default generator.

    Raises:
        InputError: n is below 1.
    """
    if n is not None and n < 1:
        raise InputError(f"the number of images must be at least 1, got {n}")
    if n is None or n >= len(records):
        return list(records)
    chosen = np.random.default_rng(seed).permutation(len(records))[:n]
    return [records[k] for k in np.sort(chosen)]


SOURCES = (
    Source("images of Foolbox", is_foolbox_images, read_foolbox_images),
    Source("Parquet files", is_parquet, read_parquet),
    Source("tar archives", is_tar, read_tar),
    Source("archive of CIFAR", is_cifar_archive, read_cifar_archive),
    Source("Tiny-ImageNet", is_tiny_imagenet, read_tiny_imagenet),
    Source("ImageNet's flat validation folder", is_flat_validation, read_flat_validation),
    Source("class folders", lambda root: root.is_dir(), read_class_folders),
    Source("CSV manifest", lambda root: root.is_file(), read_manifest),
)
"""Every way in which a data set of image files may be stored, in the order they are tried."""
