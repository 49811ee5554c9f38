"""The test sets in the archives of CIFAR-10 and CIFAR-100 (`cifar-10-batches-py`)."""

from __future__ import annotations

from pathlib import Path

from iaside_plugins.adapters.imagenet.cifar import ARCHIVES, ArchiveRow, archive_file, read_cifar
from iaside_plugins.adapters.imagenet.labels import Classes, class_map, known_map
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.errors import InputError


def is_cifar_archive(root: Path) -> bool:
    """Return whether a folder is the unpacked archive of a CIFAR data set, or holds one."""
    return bool(_datasets(root))


def read_cifar_archive(root: Path, labels: str, classes: Classes) -> Listing:
    """Return the test images of a CIFAR archive in its order; ids are `test/00012`.

    Raises:
        InputError: Two archives, or a file that is not the archive's.
    """
    datasets = _datasets(root)
    if len(datasets) > 1:
        folders = " or ".join(Path(ARCHIVES[dataset][0]).parent.name for dataset in datasets)
        raise InputError(f"{root} holds the archives of {' and '.join(datasets)}: give {folders}")
    dataset = datasets[0]
    file, archive = archive_file(root, dataset), read_cifar(root, dataset)
    if file is None or archive is None:
        raise InputError(f"{root} holds no archive of {dataset}")
    own = known_map(dataset)
    names = tuple(own.index)
    if (largest := int(archive[1].max())) >= len(names):
        raise InputError(f"{file} has label {largest}; {dataset} has {len(names)} classes")
    is_own = classes is None and labels in ("auto", dataset, UNLABELLED)
    known = own if is_own else class_map(names, labels, classes)
    records = [
        ImageRecord(file, known.index[names[label]], f"test/{k:05d}", ArchiveRow(dataset, k))
        for k, label in enumerate(archive[1].tolist())
    ]
    return records, known.space


def _datasets(root: Path) -> list[str]:
    """Return the data sets whose archive a folder is or holds."""
    found = []
    for dataset, (name, _) in ARCHIVES.items():
        file = archive_file(root, dataset)
        # A file called "test" may be anything: beside it lies the archive's "meta".
        metas = ("batches.meta", "meta")
        if file is not None and (
            file.parent.name == Path(name).parent.name
            or any((file.parent / meta).is_file() for meta in metas)
        ):
            found.append(dataset)
    return found
