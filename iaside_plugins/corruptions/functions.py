"""The 15 corruptions as functions of a uint8 RGB image, its constants and a random generator.

Source: Hendrycks and Dietterich, ICLR 2019, and the script that made ImageNet-C. The order of the
draws, the truncation of results to uint8 and the oddities (said where they occur) are those of the
script, so that the same draws give the same bytes. Throughout, x is the image divided by 255 and
results are clipped to [0, 1], multiplied by 255 and truncated, unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from iaside_plugins.corruptions.constants import ConstantSet, Row
from iaside_plugins.corruptions.filters import (
    Bytes,
    Floats,
    affine_warped,
    clipped_zoom,
    displaced,
    imaging_library,
    jpeg_round_trip,
    motion_blurred,
    plasma_fractal,
    smooth_channels,
    smoothing_matrix,
    truncated,
)
from iaside_plugins.corruptions.frost import frost_crop


@dataclass(frozen=True)
class RandomDraws:
    """What one corruption of one image depends on, besides the image.

    Attributes:
        row: The constants of the corruption at this severity.
        constants: The set they come from, for what depends on the size.
        random: Source of the draws.
        textures: Frost textures, (h, w, 3) uint8; empty where none were given.
    """

    row: Row
    constants: ConstantSet
    random: np.random.RandomState
    textures: Sequence[Bytes] = ()


def _gaussian_noise(image: Bytes, draw: RandomDraws) -> Bytes:
    """Add N(0, sd) to x; row = (sd,)."""
    return truncated(image / 255 + draw.random.normal(0, draw.row[0], image.shape))


def _shot_noise(image: Bytes, draw: RandomDraws) -> Bytes:
    """Poisson(photons x) / photons; row = (photons,)."""
    (photons,) = draw.row
    return truncated(draw.random.poisson(image / 255 * photons) / photons)


def _impulse_noise(image: Bytes, draw: RandomDraws) -> Bytes:
    """Each byte becomes 0 or 255, with equal chance, with probability row[0]."""
    replaced = draw.random.random_sample(image.shape) < draw.row[0]
    salt = draw.random.random_sample(image.shape) < 0.5
    return np.where(replaced, np.where(salt, 255, 0), image).astype(np.uint8)


def defocus_kernel(radius: float, alias_sigma: float) -> npt.NDArray[np.float32]:
    """Disk of `radius` smoothed by a small Gaussian, (2 L + 1, 2 L + 1), L = max(8, radius).

    It is not normalised after the smoothing: disks of radius 8 and 10 touch the kernel's edge and
    come out with sums 1.013 and 1.011, so that severities 4 and 5 brighten the image.
    """
    cv2 = imaging_library("cv2")
    half = 8 if radius <= 8 else int(radius)
    squares = np.arange(-half, half + 1) ** 2
    disk = (squares[:, None] + squares <= radius**2).astype(np.float32)
    disk /= disk.sum()
    window = 3 if radius <= 8 else 5
    kernel: npt.NDArray[np.float32] = cv2.GaussianBlur(
        disk, ksize=(window, window), sigmaX=alias_sigma
    )
    return kernel


def _defocus_blur(image: Bytes, draw: RandomDraws) -> Bytes:
    """Correlation with a disk, borders reflected about the edge pixel; row = (radius, sigma)."""
    cv2 = imaging_library("cv2")
    kernel = defocus_kernel(*draw.row)
    x = image / 255
    channels = [
        cv2.filter2D(np.ascontiguousarray(x[..., channel]), -1, kernel) for channel in range(3)
    ]
    return truncated(np.stack(channels, axis=-1))


def _glass_blur(image: Bytes, draw: RandomDraws) -> Bytes:
    """Smooth, copy pixels from random neighbours, smooth; row = (sigma, reach, passes).

    Each target takes the value its neighbour has at that moment. The published code means to swap
    the two but, working on views, copies; the ranges of the offsets, -reach .. reach - 1, and of
    the targets, reach + 1 .. size - reach, are its own too. The copies run on a list of pixel
    numbers: element access in an array would take most of the time.
    """
    sigma, reach, passes = draw.row[0], int(draw.row[1]), int(draw.row[2])
    height, width = image.shape[:2]
    smooth = (smooth_channels(image / 255, sigma) * 255).astype(np.uint8)
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    targets = (rows[:, None] * width + columns).ravel()
    pixel = list(range(height * width))
    for _ in range(passes):
        offsets = draw.random.randint(-reach, reach, size=(len(targets), 2))
        neighbours = targets + offsets[:, 1] * width + offsets[:, 0]
        for target, neighbour in zip(targets.tolist(), neighbours.tolist(), strict=True):
            pixel[target] = pixel[neighbour]
    mixed = smooth.reshape(-1, 3)[pixel].reshape(image.shape)
    return truncated(smooth_channels(mixed / 255, sigma))


def _motion_blur(image: Bytes, draw: RandomDraws) -> Bytes:
    """ImageMagick's motion blur at an angle of U(-45, 45) degrees; row = (radius, sigma)."""
    radius, sigma = draw.row
    return motion_blurred(image, radius, sigma, draw.random.uniform(-45, 45))


def _zoom_blur(image: Bytes, draw: RandomDraws) -> Bytes:
    """Mean of x and its zooms by 1, 1 + step, ..., in float32; row = (step, number of zooms)."""
    step, n_zooms = draw.row[0], int(draw.row[1])
    x = (image / 255).astype(np.float32)
    total = x.copy()  # the zoom by 1
    for index in range(1, n_zooms):
        total += clipped_zoom(x, 1 + index * step)
    return truncated((x + total) / np.float32(n_zooms + 1))


def _snow(image: Bytes, draw: RandomDraws) -> Bytes:
    """Whitened image plus streaks of snow and the same streaks turned by 180 degrees.

    row = (mean, sd, zoom, threshold, radius, sigma, share of the image kept).
    """
    cv2 = imaging_library("cv2")
    mean, sd, zoom, threshold, radius, sigma, kept = draw.row
    x = (image / np.float32(255)).astype(np.float32)
    flakes = clipped_zoom(draw.random.normal(mean, sd, image.shape[:2]), zoom)
    flakes[flakes < threshold] = 0
    streaks = motion_blurred(truncated(flakes), radius, sigma, draw.random.uniform(-135, -45)) / 255
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5)
    return truncated(whitened + (streaks + streaks[::-1, ::-1])[..., None])


def _frost(image: Bytes, draw: RandomDraws) -> Bytes:
    """share_image a + share_frost texture on the 0..255 scale, truncated; row = both shares."""
    share_image, share_frost = draw.row
    scale = draw.constants.frost_scale * min(image.shape[:2]) / draw.constants.size
    crop = frost_crop(draw.textures, image.shape[:2], scale, draw.random)
    return np.clip(share_image * image + share_frost * crop, 0, 255).astype(np.uint8)


def _fog(image: Bytes, draw: RandomDraws) -> Bytes:
    """(x + amount plasma) M / (M + amount), M the maximum of x; row = (amount, decay)."""
    amount, decay = draw.row
    height, width = image.shape[:2]
    size = 2 ** math.ceil(math.log2(max(height, width)))
    plasma = plasma_fractal(draw.random, size, decay)[:height, :width, None]
    x = image / 255
    brightest = x.max()
    return truncated((x + amount * plasma) * brightest / (brightest + amount))


def _brightness(image: Bytes, draw: RandomDraws) -> Bytes:
    """The value V of HSV becomes min(V + row[0], 1); hue and saturation are kept.

    This is x V' / V, but computed through hue and saturation as the original does: results often
    lie at a whole grey level, where truncation makes a rounding error of 1e-16 visible.
    """
    x = image / 255
    value, spread = x.max(axis=-1), np.ptp(x, axis=-1)
    chroma = np.where(spread > 0, spread, 1)
    red, green, blue = np.moveaxis(x, -1, 0)
    # Where several channels are the maximum, the last one counts.
    hue = np.where(green == value, 2 + (blue - red) / chroma, (green - blue) / chroma)
    hue = np.where(blue == value, 4 + (red - green) / chroma, hue) / 6 % 1
    hue[spread == 0] = 0
    saturation = spread / np.where(value > 0, value, 1)
    value = np.clip(value + draw.row[0], 0, 1)
    sector = np.floor(hue * 6)
    within = hue * 6 - sector
    low = value * (1 - saturation)
    falling = value * (1 - within * saturation)
    rising = value * (1 - (1 - within) * saturation)
    which = sector.astype(np.intp) % 6
    sectors = [
        np.choose(which, choices)
        for choices in (
            [value, falling, low, low, rising, value],
            [rising, value, value, falling, low, low],
            [low, low, rising, value, value, falling],
        )
    ]
    return truncated(np.stack(sectors, axis=-1))


def _contrast(image: Bytes, draw: RandomDraws) -> Bytes:
    """(x - m) factor + m, m the mean of each channel; row = (factor,)."""
    x = image / 255
    means = x.mean(axis=(0, 1), keepdims=True)
    return truncated((x - means) * draw.row[0] + means)


def _elastic_transform(image: Bytes, draw: RandomDraws) -> Bytes:
    """Random affine warp, then a smooth random displacement; row = (alpha, sigma, affine range).

    The row is in units of the size. Not monotone in severity: of the five, 2 is the strongest.
    """
    cv2 = imaging_library("cv2")
    height, width = image.shape[:2]
    side = min(height, width)
    unit = draw.constants.elastic_unit * side / draw.constants.size
    alpha, sigma, affine_range = (unit * value for value in draw.row)
    x = (image / np.float32(255)).astype(np.float32)
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * (side // 3) + (width // 2, height // 2)
    old = corners.astype(np.float32)
    jitter = draw.random.uniform(-affine_range, affine_range, size=old.shape)
    forward = cv2.getAffineTransform(old, old + jitter.astype(np.float32))

    def displacement() -> npt.NDArray[np.float32]:
        field: Floats = draw.random.uniform(-1, 1, size=(height, width))
        smooth = smoothing_matrix(height, sigma, 3.0) @ field
        smooth = smooth @ smoothing_matrix(width, sigma, 3.0).T
        return np.asarray(smooth * alpha, dtype=np.float32)

    across = displacement()
    down = displacement()
    return truncated(displaced(affine_warped(x, forward), down, across))


def _pixelate(image: Bytes, draw: RandomDraws) -> Bytes:
    """Box resize to int(size share) and back, in uint8; row = (share,)."""
    pillow = imaging_library("PIL.Image")
    height, width = image.shape[:2]
    small = (int(width * draw.row[0]), int(height * draw.row[0]))
    shrunk = pillow.fromarray(image).resize(small, pillow.Resampling.BOX)
    return np.array(shrunk.resize((width, height), pillow.Resampling.BOX))


def _jpeg_compression(image: Bytes, draw: RandomDraws) -> Bytes:
    """JPEG round trip at quality row[0]."""
    return jpeg_round_trip(image, int(draw.row[0]))


FUNCTIONS: Mapping[str, Callable[[Bytes, RandomDraws], Bytes]] = MappingProxyType(
    {
        "gaussian_noise": _gaussian_noise,
        "shot_noise": _shot_noise,
        "impulse_noise": _impulse_noise,
        "defocus_blur": _defocus_blur,
        "glass_blur": _glass_blur,
        "motion_blur": _motion_blur,
        "zoom_blur": _zoom_blur,
        "snow": _snow,
        "frost": _frost,
        "fog": _fog,
        "brightness": _brightness,
        "contrast": _contrast,
        "elastic_transform": _elastic_transform,
        "pixelate": _pixelate,
        "jpeg_compression": _jpeg_compression,
    }
)
