"""Find what is wrong with a data tree and say how to repair it; no model is run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath, PurePosixPath

from iaside_plugins.adapters.imagenet.cifar import ARCHIVES, CORRUPTED, read_cifar, read_cifar_c
from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, decode, read_bytes
from iaside_plugins.adapters.imagenet.folders import grouped_corruptions, tree_cells
from iaside_plugins.adapters.imagenet.labels import UnknownClassesError, known_map
from iaside_plugins.adapters.imagenet.listing import image_names, read_listing, subfolders
from iaside_plugins.adapters.imagenet.records import find_records, source_of
from iaside_plugins.adapters.imagenet.remote import local_or_remote
from iaside_plugins.adapters.imagenet.sources.flat_validation import is_flat_validation
from iaside_plugins.adapters.models.robustbench_zoo import ORDER
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.display.errors import with_options
from iaside_plugins.entry.robustbench_json import robustbench_ids
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import PLAIN_INTEGERS

OK, NOTE, PROBLEM = "ok", "note", "problem"
TREES = {"ImageNet-C": "corruptions", "ImageNet-3DCC": "corruptions_3d"}
N_DECODED = 20  # clean files that are decoded, evenly spread
N_PER_CELL = 4  # corrupted files of each corruption and severity that are decoded
_ROBUSTBENCH = ("class folders", "archive of CIFAR", "CSV manifest")  # what it or its list reads
_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class DoctorFinding:
    """One line about a part of the tree.

    Attributes:
        kind: "ok", "note" (a problem for RobustBench, not for this package) or "problem".
        part: Name of the part.
        text: What was found and, unless it is ok, how to repair it.
    """

    kind: str
    part: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind:<8} {self.part}: {self.text}"


def diagnose(root: Path) -> list[DoctorFinding]:
    """Return findings on every part of a tree that is recognised: clean, corrupted, CIFAR.

    No part with a problem is also ok.

    Args:
        root: RobustBench's data folder, one of the trees in it, or images stored in any way of
            `records.SOURCES`.

    Raises:
        InputError: There is no such folder or file.
    """
    found = _findings(local_or_remote(root))
    bad = {finding.part for finding in found if finding.kind == PROBLEM}
    return [finding for finding in found if finding.kind != OK or finding.part not in bad]


def _findings(root: Path) -> list[DoctorFinding]:
    """Return what each part says of itself."""
    source = source_of(root)
    if source.name not in _ROBUSTBENCH:
        return list(_records(root, source.name))
    if root.is_file():
        return list(_records(root, root.name))
    found = [*_clean(root), *_trees(root), *_cifar(root)]
    if not found and any(map(image_names, (root, *subfolders(root)))):
        found = list(_records(root, source.name))
    if not found:
        expected = "val/<wnid>/<file>, ImageNet-C, ImageNet-3DCC, CIFAR-10-C, CIFAR-100-C, "
        expected += ", ".join(name.split("/")[0] for name, _ in ARCHIVES.values())
        found = [
            DoctorFinding(PROBLEM, root.name, f"nothing known in it; expected some of {expected}")
        ]
    return found


def _records(root: Path, part: str) -> Iterator[DoctorFinding]:
    """Check images as a run would read them."""
    try:
        records, space = find_records(root)
    except UnknownClassesError as error:
        yield DoctorFinding(
            NOTE,
            part,
            f"{len(error.names)} classes of your own ({_some(error.names)}): commands need "
            "--classes FILE (their names in the order of the model's outputs, one a line), "
            "--labels rank where that is the sorted one, or a model that names its outputs so",
        )
        return
    except InputError as error:
        said = with_options(str(error), {"classes": "--classes", "labels": "--labels"})
        yield DoctorFinding(PROBLEM, part, said.rstrip("."))
        return
    yield from _unusable(part, [(_in_class(PurePosixPath(r.image_id)), r.read) for r in records])
    n_classes = len({record.label for record in records})
    of = "" if space.name in PLAIN_INTEGERS else f" of {space.name}"
    text = f"{len(records)} images in {n_classes} classes{of}; {_next(root)}"
    yield DoctorFinding(OK, part, text)


def _clean(root: Path) -> Iterator[DoctorFinding]:
    """Check the clean images, in class folders or as distributed."""
    home = root / "val" if (root / "val").is_dir() else root
    names = [folder.name for folder in subfolders(home)]
    if known_map("imagenet").index.keys() & names:
        yield from _class_folders(home, names, home.name if home != root else "clean images")
    elif is_flat_validation(home):
        text = "its images lie in one folder, as distributed; RobustBench needs class folders"
        yield DoctorFinding(NOTE, "val", text)
        yield from _records(home, "val")
    elif home != root:
        yield DoctorFinding(
            PROBLEM,
            "val",
            "holds no class folders such as n01440764; sort the images into them by their WordNet "
            "ids",
        )


def _class_folders(home: Path, names: Sequence[str], part: str) -> Iterator[DoctorFinding]:
    """Check the folders of a folder, some of which are ImageNet's classes."""
    wnids = known_map("imagenet").index
    folders = [name for name in names if name in wnids]
    if strange := [name for name in names if name not in wnids]:
        text = f"{_some(strange)} are no ImageNet classes; move them away"
        yield DoctorFinding(PROBLEM, part, text)
    images = read_listing(home).images
    files = {f"{folder}/{name}" for folder in folders for name in images[folder]}
    if not files:
        text = "its class folders are empty; unpack the images into them"
        yield DoctorFinding(PROBLEM, part, text)
        return
    yield from _unusable(part, _read(home / name for name in sorted(files)))
    if missing := sorted(set(wnids) - set(folders)):
        yield DoctorFinding(
            NOTE,
            part,
            f"{len(missing)} of 1000 class folders are missing ({_some(missing)}): RobustBench "
            "would stop or shift labels; for it, make them, empty ones will do",
        )
    listed = robustbench_ids()
    there = sum(name in files for name in listed)
    if there < len(listed):
        yield DoctorFinding(
            NOTE,
            part,
            f"{there} of the {len(listed)} images of RobustBench's list are there: its published "
            "figures are of all of them",
        )
    said = f"{len(files)} images in {len(folders)} classes; {_next(home)}"
    yield DoctorFinding(OK, part, said)


def _unusable(
    part: str,
    images: Sequence[tuple[str, Callable[[], bytes]]],
    remedy: str = "copy them again",
    of: str = "",
    n: int = N_DECODED,
) -> Iterator[DoctorFinding]:
    """Report images that cannot be decoded, or used, among n that are evenly spread.

    Args:
        part: Of the tree.
        images: Name of each, and what reads its file.
        remedy: What to do about files that cannot be decoded.
        of: What follows the names.
        n: So many are decoded.
    """
    bad: dict[str, list[str]] = {}
    for name, read in images[:: max(1, len(images) // n)]:
        try:
            decode(read())
        except UnreadableImageError:
            bad.setdefault(f" cannot be decoded; {remedy}", []).append(name)
        except InputError as error:  # pixels of no fixed range
            bad.setdefault(f": {error}", []).append(name)
    for said, names in bad.items():
        yield DoctorFinding(PROBLEM, part, f"{_some(names)}{of}{said}")


def _read(files: Iterable[Path]) -> list[tuple[str, Callable[[], bytes]]]:
    """Return the class and name of each file, and what reads it."""
    return [(_in_class(file), partial(read_bytes, file)) for file in files]


def _in_class(file: PurePath) -> str:
    """Return a file's name with its folder's: names may repeat over classes."""
    return "/".join(file.parts[-2:])


def _next(root: Path) -> str:
    """Return the command that reads the images."""
    return f"iaside profile MODEL --data {shlex.quote(str(root))}"


def _trees(root: Path) -> Iterator[DoctorFinding]:
    """Check ImageNet-C and ImageNet-3DCC, flat or in the groups of the archives."""
    for part, threat_model in TREES.items():
        home = root / part
        names = ORDER[threat_model]
        if not home.is_dir():
            has_trees = any((root / name).is_dir() for name in TREES)
            inside = not has_trees and set(names) & set(tree_cells(root))
            if root.name != part and not inside:
                continue
            home = root
        yield from _tree(home, part, names, root / "val")


def _tree(home: Path, part: str, names: tuple[str, ...], clean: Path) -> Iterator[DoctorFinding]:
    """Check one tree of corrupted images."""
    cells = tree_cells(home)
    problems = list(_incomplete(cells, names))
    yield from (DoctorFinding(PROBLEM, part, problem) for problem in problems)
    paths = {(name, s): path for name in names for s, path in cells.get(name, {}).items()}
    files = {cell: {f.name: image_names(f) for f in subfolders(p)} for cell, p in paths.items()}
    contents = {cell: {c: len(own) for c, own in found.items()} for cell, found in files.items()}
    yield from _unequal(part, contents)
    yield from _unlike(part, files, _wanted(clean))
    for (name, severity), path in paths.items():
        own = _read(path / c / file for c, found in files[name, severity].items() for file in found)
        of = f" of {name}/{severity}"
        yield from _unusable(part, own, "unpack its archive again", of, N_PER_CELL)
    if grouped := grouped_corruptions(home):
        yield DoctorFinding(
            NOTE,
            part,
            f"{_some(grouped)} lie in group folders, which RobustBench does not read; for it, move "
            f"them up to stand directly in {part}",
        )
    if strange := [s.name for s in subfolders(home) if s.name not in names and s.name in cells]:
        text = f"{_some(strange)} are not among the {len(names)}; not used"
        yield DoctorFinding(NOTE, part, text)
    if not problems and contents:
        n = sum(next(iter(contents.values())).values())
        yield DoctorFinding(OK, part, f"{len(names)} corruptions at 5 severities, {n} images each")


def _incomplete(cells: Mapping[str, Collection[int]], names: tuple[str, ...]) -> Iterator[str]:
    """Yield the corruptions that are not there at all five severities, and how to repair it."""
    for name in names:
        if name not in cells:
            yield f"{name} is missing; unpack its archive there"
        elif lacking := [s for s in SEVERITIES if s not in cells[name]]:
            severities = ", ".join(map(str, lacking))
            yield f"{name} has no severity {severities}; unpack its archive again"


def _wanted(clean: Path) -> set[tuple[str, str]]:
    """Return (class, stem) of the clean images of a run: RobustBench's list if all are there."""
    if not clean.is_dir():
        return set()
    there = {(f.name, Path(name).stem) for f in subfolders(clean) for name in image_names(f)}
    listed = {(Path(name).parent.name, Path(name).stem) for name in robustbench_ids()}
    return listed if listed and listed <= there else there


def _unlike(
    part: str, files: dict[tuple[str, int], dict[str, list[str]]], wanted: set[tuple[str, str]]
) -> Iterator[DoctorFinding]:
    """Report clean images that cells lack, in one line for all cells that lack the same."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for (name, severity), found in files.items():
        there = {(c, Path(file).stem) for c, own in found.items() for file in own}
        if absent := sorted("/".join(image) for image in wanted - there):
            lacking.setdefault(tuple(absent), []).append(f"{name}/{severity}")
    for images, cells in lacking.items():
        yield DoctorFinding(
            PROBLEM,
            part,
            f"{_some(cells)} lack {len(images)} of the {len(wanted)} clean images "
            f"({_some(images)}); unpack their archives again, or take these out of val",
        )


def _unequal(part: str, contents: dict[tuple[str, int], dict[str, int]]) -> Iterator[DoctorFinding]:
    """Report cells that lack classes or images which another cell has."""
    most: dict[str, int] = {}
    for classes in contents.values():
        for wnid, n in classes.items():
            most[wnid] = max(n, most.get(wnid, 0))
    for (name, severity), classes in contents.items():
        cell = f"{name}/{severity}"
        absent = [wnid for wnid in most if wnid not in classes]
        fewer = [wnid for wnid, n in classes.items() if n < most[wnid]]
        if absent:
            text = f"{cell} lacks the class folders {_some(absent)}, which other cells have"
            yield DoctorFinding(PROBLEM, part, f"{text}; unpack its archive again")
        if fewer:
            text = f"{cell} has fewer images of {_some(fewer)} than other cells"
            yield DoctorFinding(PROBLEM, part, f"{text}; unpack its archive again")
    if contents and not most:
        text = "its severities hold no class folders; unpack the archives again"
        yield DoctorFinding(PROBLEM, part, text)


def _cifar(root: Path) -> Iterator[DoctorFinding]:
    """Check the archives of CIFAR and their corrupted arrays."""
    for dataset, (name, _) in ARCHIVES.items():
        part = name.split("/")[0]
        labels = None
        if (root / part).is_dir() or root.name == part:
            try:
                archive = read_cifar(root, dataset)
            except InputError as error:
                yield DoctorFinding(PROBLEM, part, f"{error}; unpack the archive again")
                continue
            if archive is None:
                yield DoctorFinding(
                    PROBLEM, part, f"has no {Path(name).name}; unpack the archive again"
                )
                continue
            labels = archive[1]
            yield DoctorFinding(OK, part, f"{len(labels)} test images")
        home = root / CORRUPTED[dataset]
        if not home.is_dir() and root.name != home.name:
            continue
        problems = []
        for corruption in ORDER["corruptions"]:
            try:
                read_cifar_c(root, dataset, corruption, labels if labels is not None else [])
            except InputError as error:
                problems.append(str(error))
        yield from (DoctorFinding(PROBLEM, home.name, f"{p}; download it again") for p in problems)
        if not problems:
            yield DoctorFinding(OK, home.name, "15 corruptions at 5 severities")


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
