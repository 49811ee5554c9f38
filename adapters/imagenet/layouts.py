"""Folders that are no class folders, by the data sets that come so, and what to do with each."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from iaside_plugins.adapters.imagenet.listing import image_names, subfolders

_SPLITS = ("val", "validation", "valid", "test", "testing", "eval", "dev", "train", "training")
_DEPTH, _MOST_FOLDERS = 4, 2000  # how far class folders are looked for
_ARRAYS = ("labels.npy", "gaussian_noise.npy")  # of CIFAR-10-C and CIFAR-100-C
_BATCHES = {"data_batch_1": "cifar10", "test_batch": "cifar10", "train": "cifar100"}
_IMAGENET = "ILSVRC2012_val_"
_SOLUTION = "LOC_val_solution.csv"  # the labels of ImageNet's validation images, with its archive
_ADAPTER = "python -m iaside_plugins.adapters.robustbench_adapter"


@dataclass(frozen=True)
class Layout:
    """One way in which images are distributed that is not `root/<class>/<file>`.

    Attributes:
        name: What it is called.
        hint: Folder -> what to do with it; empty if it is not of this layout.
    """

    name: str
    hint: Callable[[Path], str]


def what_to_do(root: Path) -> str:
    """Return "; " and what a folder without class folders is and what to do; empty if unknown."""
    for layout in LAYOUTS:
        if hint := layout.hint(root):
            return f"; {hint}"
    return ""


def misread(root: Path, names: Iterable[str]) -> str:
    """Return what to do with folders that are no classes though images lie in them, or nothing.

    Args:
        root: The folder.
        names: Its folders with images.
    """
    names = sorted(names)
    folders = [name.lower() for name in names]
    if (root / "val_annotations.txt").is_file():
        return _tiny_imagenet(root)
    if all(name in _SPLITS for name in folders):
        for folder in (root / name for name in names):
            if image_names(folder)[0].startswith(_IMAGENET):
                return f"in {folder} {_flat(folder)}"
        return (
            f"{', '.join(sorted(folders))} are parts of a data set, not classes: "
            "sort the images of one part into class folders and give that part, or "
            "give a CSV manifest (path,label)"
        )
    if folders == ["images"]:
        return (
            "'images' is no class: sort the images into class folders, or give a CSV manifest "
            "(path,label)"
        )
    return ""


def arrays_of_cifar_c(root: Path) -> str:
    """Return what to do with the arrays of CIFAR-10-C or CIFAR-100-C; empty without them."""
    for folder in (root, root / "CIFAR-10-C", root / "CIFAR-100-C"):
        if any((folder / name).is_file() for name in _ARRAYS):
            dataset = "cifar100" if "100" in folder.name else "cifar10"
            place = folder.parent if folder != root or folder.name.startswith("CIFAR-") else folder
            return (
                f"{folder} holds the arrays (.npy) of {dataset.replace('cifar', 'CIFAR-')}-C, "
                f"which this reads: {_ADAPTER} --dataset {dataset} --threat_model corruptions "
                f"--corruptions_data_dir {_quoted(place)}; or make the corruptions here with "
                "corruptions='generate'"
            )
    return ""


def _archive_of_cifar(root: Path) -> str:
    """Recognise the unpacked archives of CIFAR-10 and CIFAR-100."""
    inner = ("", "cifar-10-batches-py", "cifar-100-python")
    for folder in (root / name for name in inner):
        for name, dataset in _BATCHES.items():
            if (folder / name).is_file() and any(
                (folder / meta).is_file() for meta in ("batches.meta", "meta")
            ):
                home = folder.parent
                return (
                    f"{folder} is the archive of {dataset}, which this reads: {_ADAPTER} "
                    f"--dataset {dataset} --data_dir {_quoted(home)}; for other commands save "
                    "its images as files in class folders"
                )
    return ""


def _tiny_imagenet(root: Path) -> str:
    """Recognise Tiny-ImageNet: its root, its validation folder, its training folder."""
    for folder in (root, root / "val", root / "tiny-imagenet-200" / "val"):
        notes = folder / "val_annotations.txt"
        if notes.is_file() and (folder / "images").is_dir():
            made = folder / "val.csv"
            return (
                f"{folder} is the validation folder of Tiny-ImageNet: list it with (echo "
                f'path,label; awk \'{{print "images/"$1","$2}}\' {_quoted(notes)}) > '
                f"{_quoted(made)} and give {made}; a model of 200 outputs also needs classes=FILE "
                "with the 200 folder names in the order of its outputs"
            )
    folders = subfolders(root)
    deeper = [folder for folder in folders if (folder / "images").is_dir()]
    if deeper and len(deeper) == len(folders) and not any(map(image_names, folders)):
        made = root / "images.csv"
        return (
            f"the images lie in <class>/images, as Tiny-ImageNet's for training: list them with "
            f"(cd {_quoted(root)} && echo path,label && for f in */images/*; do echo "
            f'"$f,${{f%%/*}}"; done) > {_quoted(made)} and give {made}'
        )
    return ""


def _corruptions(root: Path) -> str:
    """Recognise ImageNet-C and ImageNet-3DCC."""
    graded = [
        folder
        for folder in subfolders(root)
        if {"1", "2", "3", "4", "5"} <= {inner.name for inner in subfolders(folder)}
    ]
    if not graded:
        return ""
    return (
        f"it holds corruptions by severity ({graded[0].name}/1 .. 5), as ImageNet-C does: give "
        f"the clean images here, and this folder as corruptions=...; or one severity, "
        f"{graded[0] / '1'}"
    )


def _flat(root: Path) -> str:
    """Recognise images without class folders, ImageNet's validation images among them."""
    images = image_names(root)
    if not images:
        return ""
    if not images[0].startswith(_IMAGENET):
        return "images lie in it directly: sort them into class folders, or give a CSV manifest"
    made = root / "val.csv"
    places = [folder / _SOLUTION for folder in (root, *root.absolute().parents[:4])]
    solution = next((place for place in places if place.is_file()), Path(_SOLUTION))
    return (
        "images lie in it directly: these are ImageNet's validation images as distributed; sort "
        "them into class folders (the script valprep.sh does), or list them with (echo path,label; "
        f"awk -F'[, ]' 'NR>1{{print $1\".JPEG,\"$2}}' {_quoted(solution)}) > {_quoted(made)} and "
        f"give {made}"
    )


def _above(root: Path) -> str:
    """Recognise a folder above the class folders; the validation images come first."""
    level, seen = [root], 0
    for _ in range(_DEPTH):
        level = [inner for folder in level for inner in subfolders(folder)]
        seen += len(level)
        found = [folder for folder in level if any(map(image_names, subfolders(folder)))]
        if found:
            best = min(found, key=lambda folder: _rank(folder.name))
            return f"{best} holds class folders: give that folder instead"
        if seen > _MOST_FOLDERS:
            break
    flat = next((inner for inner in subfolders(root) if inner.name in _SPLITS), None)
    return f"in {flat}, {hint}" if flat is not None and (hint := _flat(flat)) else ""


def _rank(name: str) -> int:
    """Return the place of a folder among those that may hold the images to evaluate with."""
    order = [part for part in _SPLITS if not part.startswith("train")]
    if name.lower() in order:
        return order.index(name.lower())
    return len(order) + name.lower().startswith("train")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


LAYOUTS = (
    Layout("CIFAR-10-C", arrays_of_cifar_c),
    Layout("CIFAR-10", _archive_of_cifar),
    Layout("Tiny-ImageNet", _tiny_imagenet),
    Layout("ImageNet-C", _corruptions),
    Layout("class folders below", _above),
    Layout("no class folders", _flat),
)
"""Every layout that is recognised, in the order they are tried."""
