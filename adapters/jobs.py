"""From a model specification and a folder of images to a Job that `evaluate` can run."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet import (
    CorruptedData,
    ImageFolderData,
    ImageNetC,
    find_records,
    select,
)
from iaside_plugins.adapters.models import Classifier, Preprocessing, load_model
from iaside_plugins.conditions import Images
from iaside_plugins.corruptions import CORRUPTIONS, constants_size
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation import Attacks, Corruptions, Job
from iaside_plugins.frost import find_frost_textures
from iaside_plugins.protocol import Protocol
from iaside_plugins.provenance import ids_digest
from iaside_plugins.store import write_json

logger = logging.getLogger(__name__)
STANDARD_SIZE, STANDARD_RESIZE = 224, 256  # where ImageNet-C's constants are defined
SMALL = 96  # models with a smaller input are corrupted at their own size


@dataclass(frozen=True)
class Source:
    """Where images come from, and which of them are taken.

    Attributes:
        root: Folder of class folders, or a CSV manifest.
        labels: "auto", or "rank" to number folders by their rank.
        classes: File of class names, one a line.
        n_images: How many to take, seeded; None for all.
        seed: Of the selection.
        workers: Processes that decode.
        batch_size: Images in one batch.
        name: Of the data set, instead of what its labels say.
        note: What the entry should say of the images.
    """

    root: Path
    labels: str = "auto"
    classes: Path | None = None
    n_images: int | None = None
    seed: int = 0
    workers: int = 0
    batch_size: int = 64
    name: str | None = None
    note: str | None = None


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" is the first GPU if there is one, else the CPU.

    Raises:
        InputError: For an unknown device, or a GPU where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device must be auto, cpu or cuda[:i], got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={name}: this computer has {torch.cuda.device_count()} CUDA GPUs")
    return device


def pick_protocol(text: str | None, n_bands: int | None, seed: int) -> Protocol:
    """A protocol from "default", "reference", a JSON file, or "field=value,field=value".

    Raises:
        InputError: For an unknown name or field, or a value out of range.
    """
    given: dict[str, Any] = {}
    make: Any = Protocol
    for part in (text or "default").split(","):
        key, equals, value = part.strip().partition("=")
        if equals:
            try:
                given[key] = json.loads(value)
            except ValueError:
                given[key] = value
        elif key == "reference":
            make = Protocol.reference
        elif Path(key).is_file():
            try:
                given.update(json.loads(Path(key).read_text()))
            except ValueError as error:
                raise InputError(f"{key} is not a JSON file: {error}") from error
        elif key != "default":
            raise InputError(
                f"unknown protocol {key!r}: expected default, reference, a JSON file of fields, "
                "or field=value pairs such as absence=gaussian,range_handling=clip"
            )
    given.setdefault("seed", seed)
    if n_bands is not None:
        given["n_bands"] = n_bands
    given.pop("protocol_id", None)
    try:
        protocol: Protocol = make(**given)
    except TypeError as error:
        known = ", ".join(field.name for field in dataclasses.fields(Protocol))
        raise InputError(f"unknown protocol field ({error}); known: {known}") from error
    return protocol


def open_model(
    spec: str, *, device: str = "auto", name: str | None = None, training: str | None = None,
    **options: Any,
) -> Classifier:  # fmt: skip
    """A classifier on its device, with the name and training that the entry shall say.

    Args:
        spec: As for `load_model`.
        device: "auto", "cpu" or "cuda[:i]".
        name: Instead of the model's own name.
        training: How it was trained, instead of what its source says.
        options: Of `load_model`.

    Raises:
        InputError: As `load_model` and `pick_device`.
    """
    target = pick_device(device)
    model = load_model(spec, **options)
    info = model.info
    model.info = dataclasses.replace(
        info, name=name or info.name, training=training or info.training
    )
    return model.to(target)


def is_grey(model: nn.Module) -> bool:
    """Whether the first convolution of a model reads one channel."""
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    return first is not None and first.in_channels == 1


def open_images(source: Source, model: Classifier, n_images: int | None = None) -> ImageFolderData:
    """The images of a source as the model takes them, at most `n_images` of the selected ones.

    Raises:
        InputError: For folders or labels that cannot be used, or labels out of range.
    """
    records, space = find_records(source.root, labels=source.labels, classes=source.classes)
    records = select(records, source.n_images or len(records), source.seed)
    records = select(records, n_images or len(records), source.seed)
    n_classes = model.info.n_classes
    if n_classes is not None and max(record.label for record in records) >= n_classes:
        raise InputError(
            f"the images have labels up to {max(record.label for record in records)} "
            f"({space.name}), but the model has {n_classes} outputs; check --labels and --classes"
        )
    taken = model.info.preprocessing
    return ImageFolderData(
        source.root, resize=taken.resize, crop=taken.crop, interpolation=taken.interpolation,
        records=records, label_space=space, batch_size=source.batch_size, n_workers=source.workers,
        grey=is_grey(model),
    )  # fmt: skip


def make_job(
    source: Source,
    model: Classifier,
    *,
    corruptions: str = "generate",
    attacks: Sequence[foolbox_adapter.AttackSpec] = (),
    n_spectral: int | None = None,
    n_attack: int | None = None,
    jpeg: bool | None = None,
    frost: Path | None = None,
    cache: Path | None = None,
    reference: str | None = None,
) -> Job:
    """Everything to evaluate, checked before any of it runs.

    Args:
        source: The images.
        model: The model, for its preprocessing.
        corruptions: "generate", "none", or the folder of a distributed ImageNet-C.
        attacks: Attacks to run.
        n_spectral: Images for the spectral importance (all by default).
        n_attack: Images to attack (all by default).
        jpeg: Whether generated corruptions are saved as JPEG; by default as in the distributed
            sets: at 224 pixels, not below.
        frost: Folder of frost textures.
        cache: Folder that keeps generated images for the next model.
        reference: For corruption errors: an entry file of the reference model on the same
            images, or the name of a published table.

    Raises:
        InputError: For anything that cannot be used.
    """
    clean = open_images(source, model)
    info = model.info.to_dict()
    plan = None
    if corruptions == "generate":
        plan = _generated(source, clean, model.info.preprocessing, jpeg, frost, cache)
    elif corruptions != "none":
        plan = _distributed(Path(corruptions), source, clean, model.info.preprocessing)
    if plan is not None and reference is not None:
        plan = _with_reference(plan, reference, [record.image_id for record in clean.records])
    attacked = None
    if attacks:
        attacked = Attacks(
            attacks, open_images(source, model, n_attack), _attack, source.seed, source.batch_size
        )
    available, _ = find_records(source.root, labels=source.labels, classes=source.classes)
    data = {
        "name": source.name or clean.label_space.name,
        "n_available": len(available),
        "seed": source.seed,
        "note": source.note,
    }
    return Job(
        model=info, data=data, clean=clean, spectral=open_images(source, model, n_spectral),
        corruptions=plan, attacks=attacked,
    )  # fmt: skip


def _attack(
    model: Any, images: Tensor, labels: Tensor, spec: Any, seed: int, first: int
) -> list[Tensor]:
    return foolbox_adapter.adversarial(model, images, labels, spec, seed=seed, first_index=first)


def _generated(
    source: Source, clean: ImageFolderData, own: Preprocessing, jpeg: bool | None,
    frost: Path | None, cache: Path | None,
) -> Corruptions:  # fmt: skip
    """Corruptions made here: at 224 pixels for models of photographs, else at the model's size."""
    side = own.crop or _side(clean)
    small = side < SMALL
    resize, crop = (own.resize, own.crop) if small else (STANDARD_RESIZE, STANDARD_SIZE)
    size = side if small else STANDARD_SIZE
    jpeg = (not small) if jpeg is None else jpeg
    textures = find_frost_textures(frost)
    names = tuple(name for name in CORRUPTIONS if name != "frost" or textures is not None)
    if textures is None:
        logger.warning(
            "no frost textures: 14 of the 15 corruptions are evaluated, so their mean is not an "
            "mCE; pip install --no-deps imagecorruptions==1.1.2 brings them, or give --frost DIR"
        )
    same = (resize, crop) == (own.resize, own.crop) and (small or own.interpolation == "bilinear")

    def images(name: str | None, severity: int) -> Images | None:
        if name is None and same:
            return None
        return CorruptedData(
            clean.records, name, severity, resize=resize, crop=crop,
            output_size=None if own.crop in (None, size) else own.crop,
            interpolation=own.interpolation, jpeg=jpeg, seed=source.seed, frost_textures=textures,
            cache=cache, batch_size=source.batch_size, n_workers=source.workers, grey=clean.grey,
        )  # fmt: skip

    settings = {
        "source": "generated", "size": size, "constants": str(constants_size(size, size)),
        "jpeg": jpeg, "seed": source.seed,
    }  # fmt: skip
    missing = tuple(name for name in CORRUPTIONS if name not in names)
    return Corruptions(names, missing, images, settings)


def _side(clean: ImageFolderData) -> int:
    """Shorter side of the first image, for models that take images as they are."""
    images, _, _ = next(iter(clean))
    return min(images.shape[2:])


def _distributed(
    root: Path, source: Source, clean: ImageFolderData, own: Preprocessing
) -> Corruptions:
    """Corruptions read from a distributed tree; what it lacks is said and left out."""
    available = ImageNetC.available(root)
    names = tuple(name for name in CORRUPTIONS if len(available.get(name, ())) == 5)
    if not names:
        raise InputError(
            f"{root} holds none of the 15 corruptions at 5 severities; expected "
            "DIR/<corruption>/<severity>/<class>/<file> or DIR/<group>/<corruption>/...; "
            "use --corruptions generate to make them"
        )
    missing = tuple(name for name in CORRUPTIONS if name not in names)
    if missing:
        logger.warning("%s lacks %s: the mean is not an mCE", root.name, ", ".join(missing))

    def images(name: str | None, severity: int) -> Images | None:
        if name is None:
            return None
        return ImageNetC(
            root, name, severity, records=clean.records,
            output_size=None if own.crop in (None, STANDARD_SIZE) else own.crop,
            interpolation=own.interpolation, batch_size=source.batch_size,
            n_workers=source.workers,
        )  # fmt: skip

    settings = {"source": "distributed", "size": STANDARD_SIZE, "constants": "224", "jpeg": True,
                "seed": source.seed}  # fmt: skip
    return Corruptions(names, missing, images, settings)


def _with_reference(plan: Corruptions, reference: str, ids: list[str]) -> Corruptions:
    """The plan with what its errors are divided by."""
    if not Path(reference).is_file():
        from iaside_plugins.corruption_error import load_reference

        load_reference(reference)
        return dataclasses.replace(plan, published=reference)
    entry = json.loads(Path(reference).read_text())
    errors: dict[str, list[float]] = {}
    try:
        for cell in entry["corruption"]["conditions"]:
            errors.setdefault(cell["corruption"], []).append(cell["error"]["value"])
        name, images = str(entry["model"]["name"]), entry["data"]["image_ids_sha256"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{reference} is not an entry with corruption errors") from error
    if images != ids_digest(ids):
        raise InputError(
            f"{reference} was measured on other images: an mCE needs the reference model's errors "
            "on the same ones; evaluate it with the same --data, --n-images and --seed"
        )
    return dataclasses.replace(plan, reference=errors, reference_name=name)


def cache_folder() -> Path:
    """Where unfinished runs are kept: IASIDE_CACHE, or the user's cache folder."""
    if given := os.environ.get("IASIDE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iaside"


def budgets(text: str | None) -> list[float] | None:
    """Budgets of a list such as "2/255,8/255" or "0.1,0.5"; None for no text.

    Raises:
        InputError: For anything that is not a number or a fraction.
    """
    if text is None:
        return None
    found = []
    for part in text.split(","):
        above, slash, below = part.strip().partition("/")
        try:
            found.append(float(above) / (float(below) if slash else 1.0))
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"budgets are numbers or fractions such as 2/255,8/255; got {part.strip()!r}"
            ) from error
    return found


def write_entry(path: Path, entry: dict[str, Any]) -> Path:
    """Validate an entry by recomputation and write it; a folder gets it under its entry_id.

    Raises:
        InputError: If the file cannot be written, or a check fails (which would be a defect of
            this package: please report it).
    """
    from iaside_plugins.leaderboard.checks import check_entry
    from iaside_plugins.leaderboard.schema import parse_entry

    if path.is_dir():
        path = path / f"{entry['entry_id']}.json"
    parsed = parse_entry(json.dumps(entry), path.name)
    problems = check_entry(parsed, entry["entry_id"])
    if problems:
        raise InputError(f"the entry does not pass its own checks: {problems[0]}")
    write_json(path, entry)
    return path
