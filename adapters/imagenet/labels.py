"""From class folders or names to class indices.

Counting folders gives wrong labels without any error as soon as one class is missing, so names are
looked up in the class order of a known data set or in a file that the user gives; the position of
a folder counts only with labels="rank".
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from iaside_plugins.errors import InputError, cut, first_names, shown
from iaside_plugins.storage.files import parse_json, read_file

KNOWN_MAPS = ("imagenet", "cifar10", "cifar100")
"""The data sets whose class order comes with the package."""

LABELS = ("auto", *KNOWN_MAPS, "file", "rank")
"""Ways to get labels: recognise the names, one known data set, a file of classes, the position."""

MOST_CLASSES = 1_000_000  # far beyond any model: a larger label is a slip

_MOST_BYTES = 2**26  # of a file of classes
_log = logging.getLogger(__name__)
_N_NAMED = 5  # how many unknown names an error shows


class UnknownClassesError(InputError):
    """Class names that the class map does not have; `names` holds all of them, sorted."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


@dataclass(frozen=True)
class LabelSpace:
    """What the label indices mean.

    Attributes:
        name: "imagenet", "cifar10", "cifar100", "file" (a file of classes), "model" (a model that
            names its outputs), "rank" (position of the folder), "integers" (folders named by
            them), "manifest" (integers of a manifest), "records", "names" (those that a Parquet
            file brings), "imagenet-200" and the like (some classes of a data set), or "predicted"
            (the model's outputs).
        n_classes: Number of classes, also of those without an image here; for those of
            `inference.checks.PLAIN_INTEGERS` only the largest label + 1.
        names: Name of every class, for people; ImageNet has two "crane" and two "maillot".
    """

    name: str
    n_classes: int
    names: tuple[str, ...]

    @classmethod
    def of_integers(cls, name: str, labels: Iterable[int]) -> LabelSpace:
        """Return the label space of plain integers: the largest label + 1 classes."""
        n_classes = max(labels) + 1
        return cls(name, n_classes, tuple(str(k) for k in range(n_classes)))


@dataclass(frozen=True)
class ClassMap:
    """A label space, and the class index of every folder name."""

    space: LabelSpace
    index: Mapping[str, int]


Classes = Path | str | ClassMap | None
"""Where the order of the classes comes from, if not from the images: a file, or the model."""


@lru_cache(maxsize=len(KNOWN_MAPS))
def known_map(name: str) -> ClassMap:
    """Return the class order of a known data set.

    Args:
        name: One of `KNOWN_MAPS`. ImageNet folders are WordNet ids ("n01440764").
    """
    resource = files("iaside_plugins.adapters.imagenet") / "class_maps" / f"{name}.json"
    stored = json.loads(resource.read_text(encoding="utf-8"))
    folders: list[str] = stored["folders"]
    names = tuple(stored.get("names", folders))
    return ClassMap(LabelSpace(name, len(folders), names), _index(folders))


def read_classes(path: Path | str) -> ClassMap:
    """Return the class order of a file: one class folder name per line, or a JSON list of them.

    Args:
        path: Text file, UTF-8; the first line is class 0. A name of `.json` is read as JSON.

    Raises:
        InputError: The file cannot be read, is empty, has an empty line in between (it would
            shift the classes after it) or names a class twice.
    """
    path = Path(path)
    try:
        text = read_file(path, _MOST_BYTES).decode("utf-8-sig")
        names = parse_json(text) if path.suffix.lower() == ".json" else text.rstrip().splitlines()
    except ValueError as error:
        raise InputError(f"cannot read the classes of {path}: {_reason(error)}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} must hold a list of class folder names, nothing else")
    names = [name.strip() for name in names]
    if not any(names):
        raise InputError(f"{path} names no classes; expected one class folder name per line")
    if "" in names:
        raise InputError(f"{path}, class {names.index('')}: the name is empty; remove the line")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{path} names {_quoted(twice)} more than once; classes must differ")
    return ClassMap(LabelSpace("file", len(names), tuple(names)), _index(names))


def model_classes(names: Sequence[str]) -> ClassMap:
    """Return the class order of a model that names its outputs."""
    return ClassMap(LabelSpace("model", len(names), tuple(names)), _index(names))


def chosen_classes(classes: Path | str | ClassMap) -> ClassMap:
    """Return the class order of a file, or that of a model."""
    return classes if isinstance(classes, ClassMap) else read_classes(classes)


def class_map(names: Iterable[str], labels: str = "auto", classes: Classes = None) -> ClassMap:
    """Return the class map that has every one of `names`.

    Args:
        names: Class folders, or the class names of a manifest; need not be all classes.
        labels: One of `LABELS`. "auto" takes the known data set that has the names: ImageNet by
            WordNet ids, CIFAR by class names; names that are all integers are class indices.
            "imagenet" also takes ImageNet's class names where
            they are unique; "auto" does not, since CIFAR shares two dozen of them. "rank" numbers
            the sorted names, which is right only if the model was trained on exactly these.
        classes: File of `read_classes`, or the classes of the model, used instead of the known
            data sets.

    Raises:
        UnknownClassesError: A name is unknown.
        InputError: `labels` is unknown or contradicts `classes`.
    """
    wanted = sorted(set(names))
    if labels not in LABELS:
        raise InputError(f"labels must be one of {', '.join(LABELS)}, got {labels!r}")
    if (classes is not None) != (labels == "file") and labels != "auto":
        raise InputError(
            f"labels={labels!r} does not go with "
            f"{'no classes file' if classes is None else 'a classes file'}; "
            "give classes=FILE alone, or another labels without it"
        )
    integers = class_indices(wanted)
    ranks = _index(wanted)
    differ = next((name for name in integers if integers[name] != ranks[name]), None)
    if labels == "rank":
        if differ is not None:
            _log.warning(
                "labels='rank' makes folder %s class %d: sorted as text, not by number; without "
                "it folders named by integers are class indices",
                shown(differ),
                ranks[differ],
            )
        return by_rank(wanted)
    if integers and labels == "auto" and classes is None:
        if differ is not None:
            _log.warning(
                "folders named by integers are taken as class indices: folder %s is class %d; "
                "labels='rank' would make it class %d, as torchvision's ImageFolder does",
                shown(differ),
                integers[differ],
                ranks[differ],
            )
        return ClassMap(LabelSpace.of_integers("integers", integers.values()), integers)
    if classes is not None:
        chosen = chosen_classes(classes)
        where = "of the model" if isinstance(classes, ClassMap) else f"in {classes}"
    elif labels == "auto":
        # The map with most of the names, so that one stray folder among a thousand is reported.
        chosen = max(map(known_map, KNOWN_MAPS), key=lambda known: len(known.index.keys() & wanted))
        matches = len(chosen.index.keys() & wanted)
        where = f"of {chosen.space.name}" if matches else f"of {', '.join(KNOWN_MAPS)}"
    else:
        chosen, where = _with_names(known_map(labels)), f"of {labels}"
    if unknown := [name for name in wanted if name not in chosen.index]:
        raise UnknownClassesError(_unknown_message(unknown, len(wanted), where), unknown)
    return chosen


def by_rank(names: Iterable[str]) -> ClassMap:
    """Return the class map in which names are numbered as they are sorted."""
    wanted = sorted(set(names))
    return ClassMap(LabelSpace("rank", len(wanted), tuple(wanted)), _index(wanted))


def class_indices(names: Iterable[str]) -> dict[str, int]:
    """Return the class index of every name, if all are integers and differ; else nothing."""
    names = tuple(names)
    if not all(re.fullmatch("[0-9]{1,9}", name) for name in names):
        return {}
    found = {name: int(name) for name in names}
    distinct = len(set(found.values())) == len(found)
    return found if distinct and max(found.values(), default=0) < MOST_CLASSES else {}


def _reason(error: ValueError) -> str:
    return str(error).partition(": ")[2] if isinstance(error, InputError) else str(error)


def _index(names: Sequence[str]) -> dict[str, int]:
    return {name: k for k, name in enumerate(names)}


def _with_names(known: ClassMap) -> ClassMap:
    """Return the map with the classes' names too, where only one class has the name."""
    times = Counter(known.space.names)
    unique = {name: k for k, name in enumerate(known.space.names) if times[name] == 1}
    return ClassMap(known.space, {**unique, **known.index})


def shown_name(name: str) -> str:
    """Return the name of a class in quotes, without its middle if it is long."""
    return cut(repr(name), 80)


def _quoted(names: Sequence[str]) -> str:
    return first_names([shown_name(name) for name in names], _N_NAMED)


def _unknown_message(unknown: Sequence[str], n_found: int, where: str) -> str:
    return (
        f"{len(unknown)} of {n_found} class names are no classes {where}: {_quoted(unknown)}. "
        "Give classes=FILE with one class folder name per line in the order of the model's "
        "outputs; or labels='rank' if the outputs are numbered as the sorted folders; or a "
        "CSV manifest (path,label) with the labels as integers."
    )
