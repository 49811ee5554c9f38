"""Plans of corruptions: made here, or read from a distributed ImageNet-C."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.imagenet.cifar import (
    SIDE,
    ArchiveRow,
    ArrayRow,
    corruptions_of_cifar_c,
    read_cifar,
    read_cifar_c,
)
from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, decode
from iaside_plugins.adapters.imagenet.folders import (
    ImageFolderData,
    ImageNetC,
    matched_records,
    tree_cells,
)
from iaside_plugins.adapters.imagenet.layouts import arrays_of_cifar_c
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord, of_image
from iaside_plugins.adapters.imagenet.stream import FileReader, ImageStream, StreamGroup
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.corruptions.frost import find_frost_textures, load_frost_textures
from iaside_plugins.corruptions.functions import constants_size
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.corruption import PUBLISHED_SIZE, CorruptionPlan

logger = logging.getLogger(__name__)
STANDARD = Preprocessing(256, PUBLISHED_SIZE, "bilinear")  # of ImageNet-C
N_SIZES = 8  # images whose sizes are looked at
SMALL = 96  # pixels; models with a smaller input are corrupted at their own size


@dataclass(frozen=True)
class GenerationOptions:
    """How corruptions are made here.

    Attributes:
        jpeg: Whether the result is saved as JPEG; by default as in the distributed sets: with
            the constants of 224 pixels, not with those of 32.
        frost: Folder of frost textures; by default those of an installed package are used.
        cache: Folder that keeps the corrupted images for the next model.
    """

    jpeg: bool | None = None
    frost: Path | None = None
    cache: Path | None = None


def generated(
    clean: ImageFolderData,
    own: Preprocessing,
    seed: int,
    options: GenerationOptions = GenerationOptions(),
) -> CorruptionPlan:
    """Plan corruptions made here: at 224 pixels for models of photographs, else at their own size.

    Args:
        clean: The images, as the model takes them.
        own: The model's preprocessing.
        seed: Seeds every image's corruption, together with its id, the name and the severity.
        options: How they are made.

    Raises:
        InputError: For a folder without the textures.
    """
    side = own.crop or _side(clean)
    standard = own.crop is not None and side >= SMALL
    geometry = STANDARD if standard else own
    size = PUBLISHED_SIZE if standard else side
    constants = constants_size(size, size)
    jpeg = constants == PUBLISHED_SIZE if options.jpeg is None else options.jpeg
    folder = find_frost_textures(options.frost)
    textures = None if folder is None else load_frost_textures(folder)
    names = tuple(name for name in CORRUPTIONS if name != "frost" or textures is not None)
    if textures is None:
        logger.warning(
            "no frost textures: 14 of the 15 corruptions are evaluated, so their mean is not an "
            "mCE; pip install --no-deps imagecorruptions-imaug brings them, or give frost=DIR"
        )

    def images(name: str | None, severity: int) -> Images | None:
        made = {"jpeg": jpeg, "seed": seed, "frost_textures": textures, "cache": options.cache}
        return _made_here(clean, geometry, own, name, severity, **made)

    return _plan(names, images, "generated", size, constants, jpeg, seed)


def distributed(
    root: Path,
    clean: ImageFolderData,
    own: Preprocessing,
    seed: int,
    severities: Sequence[int] = SEVERITIES,
) -> CorruptionPlan:
    """Plan corruptions read from a distributed set; those it lacks are logged and left out.

    Args:
        root: The tree of ImageNet-C or of another set of its layout, such as Tiny-ImageNet-C, or
            the folder of the arrays of CIFAR-10-C or CIFAR-100-C, whose clean images are the
            archive's.
        clean: The images, as the model takes them.
        own: The model's preprocessing.
        seed: Recorded in the plan's settings.
        severities: Those that a corruption must have.

    Raises:
        InputError: If it holds none of the 15 at all of the severities, or other images.
    """
    rows = [record.part for record in clean.records if isinstance(record.part, ArchiveRow)]
    if rows and len(rows) == len(clean.records) and arrays_of_cifar_c(root):
        plan = _array_plan(root, clean, rows, own, seed)
    else:
        plan = _tree_plan(root, clean, own, seed, severities)
    if plan.missing:
        logger.warning("%s lacks %s: the mean is not an mCE", root.name, ", ".join(plan.missing))
    return plan


def _tree_plan(
    root: Path, clean: ImageFolderData, own: Preprocessing, seed: int, severities: Sequence[int]
) -> CorruptionPlan:
    """Plan the corruptions of a tree of image files."""
    available = ImageNetC.available(root)
    names = tuple(name for name in CORRUPTIONS if set(severities) <= {*available.get(name, ())})
    if not names:
        if hint := arrays_of_cifar_c(root):
            raise InputError(hint)
        raise InputError(
            f"{root} holds none of the 15 corruptions with severities "
            f"{', '.join(map(str, severities))}; expected "
            "DIR/<corruption>/<severity>/<class>/<file> or DIR/<group>/<corruption>/..., "
            f"found {ImageNetC.held(root)}; use corruptions='generate' to make them"
        )
    first = tree_cells(root)[names[0]][severities[0]]
    geometry = _tree_geometry(root, first, clean, own)
    size = geometry.crop or PUBLISHED_SIZE

    def images(name: str | None, severity: int) -> Images | None:
        if name is None:
            return _made_here(clean, geometry, own, None, 0)
        return ImageNetC(
            root,
            name,
            severity,
            records=clean.records,
            output_size=_output_size(geometry, own),
            interpolation=own.interpolation,
            batch_size=clean.batch_size,
            n_workers=clean.n_workers,
            grey=clean.grey,
            size=size,
        )

    # Other sizes have constants of their own, which are those of no size that is known here.
    constants = PUBLISHED_SIZE if size == PUBLISHED_SIZE else None
    return _plan(names, images, "distributed", size, constants, True, seed)


def _tree_geometry(
    root: Path, folder: Path, clean: ImageFolderData, own: Preprocessing
) -> Preprocessing:
    """Return the resize and crop of the clean images that a tree's corrupted ones are made of.

    Those of ImageNet-C where the tree's are of 224 pixels and the clean ones are not; none where
    both are of one size.

    Args:
        root: The tree.
        folder: One corruption of it at one severity.
        clean: The images, as the model takes them.
        own: The model's preprocessing.

    Raises:
        InputError: The tree's images are neither of 224 pixels nor squares of the clean ones' size;
            or one of the first images, clean or of the tree, has pixels of no fixed range.
    """
    sizes = pair_sizes(matched_records(folder, clean.records), clean.records)
    if not sizes:
        return STANDARD
    corrupted, plain = next((pair for pair in sizes if pair[0] != pair[1]), sizes[0])
    if corrupted == (PUBLISHED_SIZE, PUBLISHED_SIZE) and corrupted != plain:
        return STANDARD
    if corrupted != plain or corrupted[0] != corrupted[1]:
        raise InputError(
            f"{root} holds images of {corrupted[0]} x {corrupted[1]} pixels (width x height), and "
            f"the clean ones are {plain[0]} x {plain[1]}: give the clean images of the same set"
        )
    return _uncropped(corrupted[0], own)


def _uncropped(side: int, own: Preprocessing) -> Preprocessing:
    """Return the geometry that leaves squares of a side whole: the model's own if it does that."""
    if own.crop == side and own.resize in (None, side):
        return own
    return Preprocessing(None, side, own.interpolation)


def pair_sizes(
    perturbed: Sequence[ImageRecord], clean: Sequence[ImageRecord]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the sizes (width, height) of the first images that can be read, perturbed and clean.

    Of a few, since an original may have the size of a crop.

    Raises:
        InputError: One of them has pixels of no fixed range.
    """
    sizes = []
    for one, other in zip(perturbed[:N_SIZES], clean, strict=False):
        try:
            sizes.append((decode(one.read()).size, decode(other.read()).size))
        except UnreadableImageError:
            continue
        except InputError as error:
            raise of_image(error, one) from error
    return sizes


def _array_plan(
    root: Path,
    clean: ImageFolderData,
    rows: Sequence[ArchiveRow],
    own: Preprocessing,
    seed: int,
) -> CorruptionPlan:
    """Plan the corruptions of CIFAR-10-C or CIFAR-100-C, matched to the archive by row."""
    dataset, home = rows[0].dataset, clean.records[0].path.parent
    archive = read_cifar(home, dataset)
    if archive is None:
        raise InputError(f"{home} holds no archive of {dataset}")
    names = corruptions_of_cifar_c(root, dataset)
    # Checks shape and labels; the severities follow one another.
    arrays = {name: read_cifar_c(root, dataset, name, archive[1]) for name in names}
    per_severity = {name: len(array) // len(SEVERITIES) for name, array in arrays.items()}
    if not names:
        raise InputError(f"{root} holds none of the 15 corruptions as .npy files")
    geometry = _uncropped(SIDE, own)
    reader = FileReader(geometry, clean.grey, _output_size(geometry, own), own.interpolation)

    def images(name: str | None, severity: int) -> Images | None:
        if name is None:
            return _made_here(clean, geometry, own, None, 0)
        first = (severity - 1) * per_severity[name]
        records = [
            replace(record, path=names[name], part=ArrayRow(first + row.row))
            for record, row in zip(clean.records, rows, strict=True)
        ]
        return ImageStream(records, reader, clean.batch_size, clean.n_workers)

    return _plan(tuple(names), images, "distributed", SIDE, SIDE, False, seed)


def _plan(
    names: tuple[str, ...],
    images: Callable[[str | None, int], Images | None],
    source: str,
    size: int,
    constants: int | None,
    jpeg: bool,
    seed: int,
) -> CorruptionPlan:
    """Return a plan with the settings that entries record."""
    settings = {
        "source": source,
        "size": size,
        "constants": None if constants is None else str(constants),
        "jpeg": jpeg,
        "seed": seed,
    }
    missing = tuple(name for name in CORRUPTIONS if name not in names)
    return CorruptionPlan(names, missing, images, settings, together=StreamGroup)


def _made_here(
    clean: ImageFolderData,
    geometry: Preprocessing,
    own: Preprocessing,
    name: str | None,
    severity: int,
    **options: Any,
) -> CorruptedData | None:
    """Return corrupted images, or None for uncorrupted ones that are the model's own clean input.

    Args:
        clean: The images, as the model takes them.
        geometry: Resize and crop before the corruption.
        own: The model's preprocessing.
        name: Corruption; None for the images uncorrupted.
        severity: 1 to 5, or 0 without a corruption.
        options: Options of `CorruptedData`.
    """
    kinds = [(g.resize, g.crop, g.interpolation) for g in (geometry, own)]
    if name is None and kinds[0] == kinds[1]:
        return None
    return CorruptedData(
        clean.records,
        name,
        severity,
        resize=geometry.resize,
        crop=geometry.crop,
        output_size=_output_size(geometry, own),
        interpolation=geometry.interpolation,
        output_interpolation=own.interpolation,
        batch_size=clean.batch_size,
        n_workers=clean.n_workers,
        grey=clean.grey,
        **options,
    )


def _output_size(geometry: Preprocessing, own: Preprocessing) -> int | None:
    """Return the size to resize corrupted images to, or None if they have the model's already."""
    return None if own.crop == geometry.crop else own.crop


def _side(clean: ImageFolderData) -> int:
    """Return the shorter side of the first image, for models that take images as they are."""
    images, _, _ = next(iter(clean))
    return min(images.shape[2:])
