"""Which corruptions a model is evaluated under, and where their images come from."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.imagenet.folders import CorruptedData, ImageFolderData, ImageNetC
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.corruptions.apply import CORRUPTIONS, constants_size
from iaside_plugins.corruptions.error_rates import SEVERITIES, load_reference, mean_corruption_error
from iaside_plugins.corruptions.frost import find_frost_textures, load_frost_textures
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.storage.provenance import ids_digest

logger = logging.getLogger(__name__)
STANDARD_SIZE, STANDARD_RESIZE = 224, 256  # where ImageNet-C's constants are defined
STANDARD = Preprocessing(STANDARD_RESIZE, STANDARD_SIZE, "bilinear")
SMALL = 96  # models with a smaller input are corrupted at their own size


def generated(
    clean: ImageFolderData,
    own: Preprocessing,
    seed: int,
    jpeg: bool | None = None,
    frost: Path | None = None,
    cache: Path | None = None,
) -> CorruptionPlan:
    """Corruptions made here: at 224 pixels for models of photographs, else at the model's size.

    Args:
        clean: The images, as the model takes them.
        own: The model's preprocessing.
        seed: Seeds every image's corruption, together with its id, the name and the severity.
        jpeg: Whether the result is saved as JPEG; by default as in the distributed sets: with
            the constants of 224 pixels, not with those of 32.
        frost: Folder of frost textures; else those of an installed package are used.
        cache: Folder that keeps the corrupted images.

    Raises:
        InputError: For a folder without the textures.
    """
    side = own.crop or _side(clean)
    standard = own.crop is not None and side >= SMALL
    geometry = STANDARD if standard else own
    size = STANDARD_SIZE if standard else side
    constants = constants_size(size, size)
    jpeg = constants == STANDARD_SIZE if jpeg is None else jpeg
    folder = find_frost_textures(frost)
    textures = None if folder is None else load_frost_textures(folder)
    names = tuple(name for name in CORRUPTIONS if name != "frost" or textures is not None)
    if textures is None:
        logger.warning(
            "no frost textures: 14 of the 15 corruptions are evaluated, so their mean is not an "
            "mCE; pip install --no-deps imagecorruptions==1.1.2 brings them, or give --frost DIR"
        )

    def images(name: str | None, severity: int) -> Images | None:
        if name is None and _same_pixels(geometry, own):
            return None
        return CorruptedData(
            clean.records,
            name,
            severity,
            resize=geometry.resize,
            crop=geometry.crop,
            output_size=own.crop if standard and own.crop != size else None,
            interpolation=geometry.interpolation,
            output_interpolation=own.interpolation,
            jpeg=jpeg,
            seed=seed,
            frost_textures=textures,
            cache=cache,
            batch_size=clean.batch_size,
            n_workers=clean.n_workers,
            grey=clean.grey,
        )

    settings = {
        "source": "generated",
        "size": size,
        "constants": str(constants),
        "jpeg": jpeg,
        "seed": seed,
    }
    missing = tuple(name for name in CORRUPTIONS if name not in names)
    return CorruptionPlan(names, missing, images, settings)


def _same_pixels(geometry: Preprocessing, own: Preprocessing) -> bool:
    """Whether an uncorrupted image is the model's own clean input."""
    kinds = [(g.resize, g.crop, g.interpolation) for g in (geometry, own)]
    return kinds[0] == kinds[1]


def _side(clean: ImageFolderData) -> int:
    """Shorter side of the first image, for models that take images as they are."""
    images, _, _ = next(iter(clean))
    return min(images.shape[2:])


def distributed(
    root: Path, clean: ImageFolderData, own: Preprocessing, seed: int
) -> CorruptionPlan:
    """Corruptions read from a distributed ImageNet-C; what it lacks is said and left out.

    Raises:
        InputError: If the tree holds none of the 15 at all five severities.
    """
    available = ImageNetC.available(root)
    names = tuple(name for name in CORRUPTIONS if len(available.get(name, ())) == 5)
    if not names:
        raise InputError(
            f"{root} holds none of the 15 corruptions at 5 severities; expected "
            "DIR/<corruption>/<severity>/<class>/<file> or DIR/<group>/<corruption>/...; "
            "use corruptions='generate' to make them"
        )
    missing = tuple(name for name in CORRUPTIONS if name not in names)
    if missing:
        logger.warning("%s lacks %s: the mean is not an mCE", root.name, ", ".join(missing))
    output_size = None if own.crop in (None, STANDARD_SIZE) else own.crop
    shared: dict[str, Any] = {
        "output_size": output_size,
        "interpolation": own.interpolation,
        "grey": clean.grey,
        "batch_size": clean.batch_size,
        "n_workers": clean.n_workers,
    }

    def images(name: str | None, severity: int) -> Images | None:
        if name is not None:
            return ImageNetC(root, name, severity, records=clean.records, **shared)
        if _same_pixels(STANDARD, own):
            return None
        return CorruptedData(
            clean.records,
            None,
            0,
            resize=STANDARD_RESIZE,
            crop=STANDARD_SIZE,
            jpeg=False,
            seed=seed,
            **{**shared, "interpolation": "bilinear"},
            output_interpolation=own.interpolation,
        )

    settings = {
        "source": "distributed",
        "size": STANDARD_SIZE,
        "constants": str(STANDARD_SIZE),
        "jpeg": True,
        "seed": seed,
    }
    return CorruptionPlan(names, missing, images, settings)


def with_reference(plan: CorruptionPlan, reference: str, clean: ImageFolderData) -> CorruptionPlan:
    """The plan with what its errors are divided by.

    Args:
        plan: The plan.
        reference: An entry file of the reference model, or the name of a published table.
        clean: The images that will be evaluated.

    Raises:
        InputError: For an unknown table, or an entry of other images or corruptions.
    """
    if not Path(reference).is_file():
        if set(load_reference(reference).mean_errors) != set(CORRUPTIONS):
            raise InputError(f"{reference} is not a table of the 15 corruptions of ImageNet-C")
        if clean.label_space.name != "imagenet" or plan.settings["size"] != STANDARD_SIZE:
            raise InputError(
                f"{reference} holds errors on ImageNet at {STANDARD_SIZE} pixels, the images here "
                f"are {clean.label_space.name} at {plan.settings['size']}: report their mean "
                "error unnormalised, without reference=..."
            )
        return dataclasses.replace(plan, published=reference)
    ids = [record.image_id for record in clean.records]
    return with_reference_entry(plan, Path(reference), ids)


def with_reference_entry(plan: CorruptionPlan, file: Path, ids: Sequence[str]) -> CorruptionPlan:
    """The plan with the errors of a reference model on the same images, from its entry.

    Args:
        plan: The plan.
        file: The entry of the reference model.
        ids: Ids of the images that will be evaluated, in order.

    Raises:
        InputError: Not an entry with these corruptions, or one of other images.
    """
    try:
        entry = json.loads(file.read_text())
        group = entry["corruption"]
        cells = {(c["corruption"], c["severity"]): c["error"]["value"] for c in group["conditions"]}
        errors = {name: [float(cells[name, s]) for s in SEVERITIES] for name in plan.names}
        name, images = str(entry["model"]["name"]), entry["data"]["image_ids_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is not an entry with errors under the same corruptions ({error})"
        ) from error
    other = [key for key, value in plan.settings.items() if group.get(key) != value]
    if images != ids_digest(ids) or other:
        raise InputError(
            f"{file} was measured on other images ({', '.join(other) or 'other files'} "
            "differ): an mCE needs the reference model's errors on the same ones; evaluate it with "
            "the same images, n_images=..., seed=... and corruption options"
        )
    if not plan.missing:
        mean_corruption_error(errors, errors)  # says now what makes no mCE, not after the work
    return dataclasses.replace(plan, reference=errors, reference_name=name)
