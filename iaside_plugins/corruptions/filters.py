"""The filters that several corruptions share: smoothing, motion blur, zoom, plasma, warping.

Every function is pure: arrays (and a `numpy.random.RandomState` where it draws) in, new array out.
Images are (H, W) or (H, W, C); coordinates are pixels, (row, column), rows downwards.
"""

from __future__ import annotations

import importlib
import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import MissingExtraError

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def imaging_library(name: str) -> Any:
    """Import one of the libraries of the extra `imagenet` (cv2, scipy.ndimage, PIL.Image).

    Raises:
        MissingExtraError: If the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError.of(
            f"corruptions need {name}, which is not installed", "imagenet"
        ) from error


def truncated(values: npt.NDArray[np.floating[Any]]) -> Bytes:
    """Float image in units of [0, 1] -> uint8: clipped, times 255, truncated as the authors do."""
    scaled: Bytes = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    return scaled


def jpeg_round_trip(image: Bytes, quality: int, *, optimize: bool = False) -> Bytes:
    """Save as a baseline JPEG with 4:2:0 chroma and decode again, with Pillow.

    Args:
        image: (H, W, 3).
        quality: Quality on the scale of the IJG, 1 to 95.
        optimize: Whether to optimise the Huffman tables (changes no pixel).

    Returns:
        (H, W, 3).
    """
    pillow = imaging_library("PIL.Image")
    buffer = io.BytesIO()
    pillow.fromarray(image).save(
        buffer, format="JPEG", quality=quality, optimize=optimize, subsampling="4:2:0"
    )
    buffer.seek(0)
    with pillow.open(buffer) as saved:
        decoded: Bytes = np.array(saved)
    return decoded


def smooth_channels(image: Floats, sigma: float) -> Floats:
    """Gaussian smoothing of each channel, radius int(4 sigma + 0.5), edge pixels replicated.

    Args:
        image: (H, W, C).
        sigma: Standard deviation, pixels.

    Returns:
        (H, W, C).
    """
    ndimage = imaging_library("scipy.ndimage")
    smoothed: Floats = ndimage.gaussian_filter(
        image, (sigma, sigma, 0), mode="nearest", truncate=4.0
    )
    return smoothed


@lru_cache(maxsize=32)
def smoothing_matrix(size: int, sigma: float, truncate: float) -> Floats:
    """Gaussian smoothing of `size` samples with symmetric borders (d c b a | a b c d), as a matrix.

    One matrix product costs the same for every radius; the elastic transform's exceeds the image.

    Returns:
        (size, size), read-only; rows sum to 1.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * offsets**2 / sigma**2) if sigma > 0 else np.ones(1)
    matrix = np.zeros((size, size))
    rows = np.repeat(np.arange(size), len(offsets))
    # The mirrored line repeats every 2 * size samples, forwards then backwards.
    columns = (rows + np.tile(offsets, size)) % (2 * size)
    columns = np.minimum(columns, 2 * size - 1 - columns)
    np.add.at(matrix, (rows, columns), np.tile(weights / weights.sum(), size))
    matrix.flags.writeable = False
    return matrix


def motion_blurred(image: Bytes, radius: float, sigma: float, angle: float) -> Bytes:
    """ImageMagick's motion blur (16-bit integer build): a one-sided half-Gaussian along a line.

    The output averages the 2 radius + 1 pixels from the target on in direction `angle`, so the
    image is shifted too. The average is rounded at 16 bits, then truncated to 8.

    Args:
        image: (H, W) or (H, W, C).
        radius: Half the length of the line, pixels.
        sigma: Standard deviation of the weights, pixels.
        angle: Direction in degrees, clockwise from the column axis.

    Returns:
        Same shape as `image`.
    """
    cv2 = imaging_library("cv2")
    steps = np.arange(int(2 * radius + 1))
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    columns = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    rows = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    margin = int(max(np.abs(columns).max(), np.abs(rows).max()))
    borders = ((margin, margin), (margin, margin), (0, 0))[: image.ndim]
    padded = np.pad(image, borders, mode="edge").astype(np.float64)
    height, width = image.shape[:2]
    total = np.zeros(image.shape)
    for weight, row, column in zip(weights.tolist(), rows + margin, columns + margin, strict=True):
        window = padded[row : row + height, column : column + width]
        total = cv2.scaleAdd(window, weight, total, dst=total)
    return (np.floor(257 * total + 0.5) // 257).astype(np.uint8)


def _zoom_axis(size: int, factor: float) -> tuple[npt.NDArray[np.intp], Floats]:
    """Along one axis of a clipped zoom: the lower source index and weight of the upper, (size,)."""
    kept = math.ceil(size / factor)
    enlarged = round(kept * factor)
    target = np.arange(size) + (enlarged - size) // 2
    position = target * ((kept - 1) / (enlarged - 1))
    lower = np.clip(np.floor(position).astype(np.intp), 0, kept - 2)
    return lower + (size - kept) // 2, position - lower


def clipped_zoom(image: npt.NDArray[Any], factor: float) -> npt.NDArray[Any]:
    """Enlarge the centre of an image by `factor` >= 1 to the image's own size, linearly.

    The ceil(size / factor) central samples are resampled corner-aligned to
    round(ceil(size / factor) factor), of which the central `size` are kept.

    Args:
        image: (H, W) or (H, W, C) floats.
        factor: Enlargement, at least 1.

    Returns:
        Same shape and dtype as `image`; computed in float64.
    """
    rows, row_weights = _zoom_axis(image.shape[0], factor)
    columns, column_weights = _zoom_axis(image.shape[1], factor)
    trailing = (1,) * (image.ndim - 2)
    down = row_weights.reshape(-1, 1, *trailing)
    across = column_weights.reshape(-1, *trailing)
    wide = image[rows] * (1 - down) + image[rows + 1] * down
    zoomed = wide[:, columns] * (1 - across) + wide[:, columns + 1] * across
    return zoomed.astype(image.dtype)


def plasma_fractal(random: np.random.RandomState, size: int, decay: float) -> Floats:
    """Plasma map on a torus by the diamond-square algorithm, rescaled to [0, 1].

    Args:
        random: Source of the draws, one array of uniforms per set of new points.
        size: Side of the map, a power of two.
        decay: Factor by which the half-width of the noise's range, squared, falls per halving.

    Returns:
        (size, size) in [0, 1].
    """
    plasma = np.zeros((size, size))
    step, wibble = size, 100.0

    def midpoint(neighbours: Floats) -> Floats:
        shape = neighbours.shape
        noise: Floats = wibble * random.uniform(-wibble, wibble, shape)
        return neighbours / 4 + noise

    while step >= 2:
        half = step // 2
        corners = plasma[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        plasma[half::step, half::step] = midpoint(pairs + np.roll(pairs, -1, axis=1))
        centres = plasma[half::step, half::step]
        above_and_below = centres + np.roll(centres, 1, axis=0)
        left_and_right = corners + np.roll(corners, -1, axis=1)
        plasma[::step, half::step] = midpoint(above_and_below + left_and_right)
        left_and_right = centres + np.roll(centres, 1, axis=1)
        above_and_below = corners + np.roll(corners, -1, axis=0)
        plasma[half::step, ::step] = midpoint(left_and_right + above_and_below)
        step, wibble = half, wibble / decay
    plasma -= plasma.min()
    plasma /= plasma.max()
    return plasma


def affine_warped(image: Singles, forward: Floats) -> Singles:
    """Affine warp, bilinear, borders reflected about the edge pixel (d c b | a b c d | c b a).

    The position read is rounded to 1/32 pixel, as OpenCV 3 and 4 do and OpenCV 5 no longer does:
    the fixed-point maps that every version accepts keep the benchmark's arithmetic.

    Args:
        image: (H, W, C).
        forward: (2, 3), maps old (column, row, 1) to new (column, row).

    Returns:
        (H, W, C).
    """
    cv2 = imaging_library("cv2")
    inverse = cv2.invertAffineTransform(forward)
    height, width = image.shape[:2]
    # Units of 1/1024 pixel; the column's and the row's parts are rounded apart, as in OpenCV 4.
    across = np.rint(inverse[:, 0, None, None] * np.arange(width)[None, None] * 1024)
    down = np.rint((inverse[:, 1, None] * np.arange(height) + inverse[:, 2, None]) * 1024)
    position = (across.astype(np.int64) + down.astype(np.int64)[:, :, None] + 16) >> 5
    whole = np.moveaxis(position >> 5, 0, -1).astype(np.int16)
    fraction = position & 31
    table = (fraction[1] * 32 + fraction[0]).astype(np.uint16)
    warped: Singles = cv2.remap(
        image, whole, table, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return warped


def displaced(image: Singles, down: Singles, across: Singles) -> Singles:
    """Bilinear read of every channel at (row + down, column + across), symmetric borders.

    Args:
        image: (H, W, C).
        down: (H, W), pixels.
        across: (H, W), pixels.

    Returns:
        (H, W, C).
    """
    ndimage = imaging_library("scipy.ndimage")
    height, width = image.shape[:2]
    # float64 positions: float32 would round them to 1/65536 pixel at column 200.
    positions = np.array(
        [np.arange(height)[:, None] + down.astype(np.float64), np.arange(width) + across]
    )
    channels = [
        ndimage.map_coordinates(channel, positions, order=1, mode="reflect")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)
