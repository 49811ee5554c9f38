"""Folders that are no class folders, by the data sets that come so, and what to do with each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from iaside_plugins.adapters.imagenet.cifar import ARCHIVES
from iaside_plugins.adapters.imagenet.labels import KNOWN_MAPS, known_map
from iaside_plugins.adapters.imagenet.listing import image_names, subfolders

_SPLITS = ("val", "validation", "valid", "test", "testing", "eval", "dev", "train", "training")
_DEPTH, _MOST_FOLDERS = 4, 2000  # how far class folders are looked for
_ARRAYS = ("labels.npy", "gaussian_noise.npy")  # of CIFAR-10-C and CIFAR-100-C
_IMAGENET = "ILSVRC2012_val_"


def what_to_do(root: Path) -> str:
    """Return "; " and what a folder without class folders is and what to do; empty if unknown."""
    hint = next(filter(None, (layout(root) for layout in LAYOUTS)), "")
    return f"; {hint}" if hint else ""


def misread(root: Path, images: Mapping[str, Sequence[str]], labels: str) -> str:
    """Return what to do with folders that are no classes though images lie in them, or nothing.

    Args:
        root: The folder.
        images: Its folders with images -> names of these, with the folders between.
        labels: "auto" or "rank".
    """
    folders = sorted(name.lower() for name in images)
    is_flat = any("/" not in name for names in images.values() for name in names)
    is_split = all(name in _SPLITS for name in folders)
    if not is_flat and (is_split or folders == ["images"] or _is_above(images, labels)):
        return what_to_do(root).removeprefix("; ")
    for name in (name for name in images if is_split and name.lower() in _SPLITS[:-2]):
        if images[name][0].startswith(_IMAGENET):
            return f"{root / name} holds ImageNet's validation images: give that folder instead"
    if is_split:
        return (
            f"{', '.join(folders)} are parts of a data set, not classes: "
            "sort the images of one part into class folders and give that part, or "
            "give a CSV manifest (path,label)"
        )
    if folders == ["images"]:
        return (
            "'images' is no class: sort the images into class folders, or give a CSV manifest "
            "(path,label)"
        )
    return ""


def _is_above(images: Mapping[str, Sequence[str]], labels: str) -> bool:
    """Return whether folders stand above class folders, if no image lies directly in them."""
    known = {name for dataset in KNOWN_MAPS for name in known_map(dataset).index}
    between = {name.rpartition("/")[0] for names in images.values() for name in names}
    if known & images.keys():
        return False
    if known & {part for path in between for part in path.split("/")}:
        return True
    return len(between) > 1 and (labels == "auto" or len(images) == 1)


def arrays_of_cifar_c(root: Path) -> str:
    """Return what to do with the arrays of CIFAR-10-C or CIFAR-100-C; empty without them."""
    for folder in (root, root / "CIFAR-10-C", root / "CIFAR-100-C"):
        if any((folder / name).is_file() for name in _ARRAYS):
            dataset = "cifar100" if "100" in folder.name else "cifar10"
            return (
                f"{folder} holds the arrays (.npy) of {dataset.replace('cifar', 'CIFAR-')}-C: give "
                f"the archive of {dataset} ({Path(ARCHIVES[dataset][0]).parent}) as the images "
                f"and corruptions={_quoted(folder)}; or make the corruptions of other images here "
                "with corruptions='generate'"
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
    """Recognise images without class folders."""
    if not image_names(root):
        return ""
    return (
        "images lie in it directly: sort them into class folders, or give a CSV manifest "
        "(path,label); without labels, labels='predicted' takes the model's own predictions"
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
    if flat is None or not image_names(flat):
        return ""
    return f"in {flat}, {_flat(flat)}"


def _rank(name: str) -> int:
    """Return the place of a folder among those that may hold the images to evaluate with."""
    order = [part for part in _SPLITS if not part.startswith("train")]
    if name.lower() in order:
        return order.index(name.lower())
    return len(order) + name.lower().startswith("train")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


LAYOUTS = (arrays_of_cifar_c, _corruptions, _above, _flat)
"""Folder -> what to do with it, empty if it is of another layout; in the order they are tried."""
