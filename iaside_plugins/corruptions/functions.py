"""The 15 corruptions: one table of functions of a uint8 RGB image, with their constants.

Source: Hendrycks and Dietterich, ICLR 2019, and the script that made ImageNet-C. The order of the
draws, the truncation of results to uint8 and the oddities (said where they occur) are those of the
script, so that the same draws give the same bytes. Throughout, x is the image divided by 255 and
results are clipped to [0, 1], multiplied by 255 and truncated, unless said otherwise. A row of
constants is explained in the docstring of its function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

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

Row = tuple[float, ...]


@dataclass(frozen=True)
class Scale:
    """What depends on the size of an image, for one size with published constants.

    Attributes:
        size: Side of the square images for which the constants were published, pixels.
        elastic_unit: Pixels that the elastic constants multiply, at that size. It is 244 for 224:
            a slip of the authors that is part of the benchmark.
        frost_scale: Factor by which the frost textures are resized, at that size.
    """

    size: int
    elastic_unit: float
    frost_scale: float


SCALES: Mapping[int, Scale] = MappingProxyType(
    {224: Scale(224, 244.0, 1.0), 32: Scale(32, 32.0, 0.2)}
)


def constants_size(height: int, width: int) -> int:
    """Return the size whose published constants an image gets: 224, or 32 for small images.

    The set nearest in the logarithm of the shorter side is used, so 32 up to 84 pixels and 224 from
    85 on. Only at 224 x 224 and 32 x 32 are the constants those that were published for the size;
    callers should record which set was used.

    Args:
        height: Rows of the image, pixels.
        width: Columns of the image, pixels.

    Returns:
        224 or 32.
    """
    side = math.log(min(height, width))
    return min(SCALES, key=lambda size: abs(math.log(size) - side))


@dataclass(frozen=True)
class RandomDraws:
    """Everything on which one corruption of one image depends, besides the image.

    Attributes:
        row: The constants of the corruption at this severity.
        scale: Lengths of the published size that the constants are for.
        random: Source of the draws.
        textures: Frost textures, (h, w, 3) uint8; empty where none were given.
    """

    row: Row
    scale: Scale
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
    the targets, reach + 1 .. size - reach, are its own too.
    """
    sigma, reach, passes = draw.row[0], int(draw.row[1]), int(draw.row[2])
    height, width = image.shape[:2]
    smooth = (smooth_channels(image / 255, sigma) * 255).astype(np.uint8)
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    targets = (rows[:, None] * width + columns).ravel()
    turn = np.arange(len(targets))
    turns = np.full(height * width, len(targets))  # of every pixel; those at the border have none
    turns[targets] = turn
    pixel = np.arange(height * width)
    for _ in range(passes):
        offsets = draw.random.randint(-reach, reach, size=(len(targets), 2))
        neighbours = targets + offsets[:, 1] * width + offsets[:, 0]
        # A neighbour whose turn came before holds what it took; follow it to one that took its own.
        link = np.minimum(turns[neighbours], turn)
        while not np.array_equal(further := link[link], link):
            link = further
        pixel[targets] = pixel[neighbours[link]]
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
    scale = draw.scale.frost_scale * min(image.shape[:2]) / draw.scale.size
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
    """Raise the value V of HSV to min(V + row[0], 1), with the same hue and saturation.

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
    unit = draw.scale.elastic_unit * side / draw.scale.size
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


def _each(*values: float) -> tuple[Row, ...]:
    """Return the constants of severities that have one number each."""
    return tuple((value,) for value in values)


@dataclass(frozen=True)
class Corruption:
    """One corruption: its group, its function and its published constants.

    Attributes:
        group: "noise", "blur", "weather" or "digital".
        function: (image, draws) -> corrupted image; its docstring explains the constants.
        imagenet: Constants at severities 1 to 5 for 224 x 224 images.
        cifar: Constants at severities 1 to 5 for 32 x 32 images.
    """

    group: str
    function: Callable[[Bytes, RandomDraws], Bytes]
    imagenet: tuple[Row, ...]
    cifar: tuple[Row, ...]

    def constants(self, size: int, severity: int) -> Row:
        """Return the constants for images of a published size, 224 or 32, at one severity."""
        return (self.imagenet if size == 224 else self.cifar)[severity - 1]


TABLE: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": Corruption(
            "noise",
            _gaussian_noise,
            _each(0.08, 0.12, 0.18, 0.26, 0.38),
            _each(0.04, 0.06, 0.08, 0.09, 0.10),
        ),
        "shot_noise": Corruption(
            "noise",
            _shot_noise,
            _each(60, 25, 12, 5, 3),
            _each(500, 250, 100, 75, 50),
        ),
        "impulse_noise": Corruption(
            "noise",
            _impulse_noise,
            _each(0.03, 0.06, 0.09, 0.17, 0.27),
            _each(0.01, 0.02, 0.03, 0.05, 0.07),
        ),
        "defocus_blur": Corruption(
            "blur",
            _defocus_blur,
            ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
            ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ),
        "glass_blur": Corruption(
            "blur",
            _glass_blur,
            ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
            ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ),
        "motion_blur": Corruption(
            "blur",
            _motion_blur,
            ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
            ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ),
        "zoom_blur": Corruption(
            "blur",
            _zoom_blur,
            ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),
            ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
        ),
        "snow": Corruption(
            "weather",
            _snow,
            (
                (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
                (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
            ),
            (
                (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
                (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
            ),
        ),
        "frost": Corruption(
            "weather",
            _frost,
            ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
            ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ),
        "fog": Corruption(
            "weather",
            _fog,
            ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
            ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ),
        "brightness": Corruption(
            "weather",
            _brightness,
            _each(0.1, 0.2, 0.3, 0.4, 0.5),
            _each(0.05, 0.1, 0.15, 0.2, 0.3),
        ),
        "contrast": Corruption(
            "digital",
            _contrast,
            _each(0.4, 0.3, 0.2, 0.1, 0.05),
            _each(0.75, 0.5, 0.4, 0.3, 0.15),
        ),
        "elastic_transform": Corruption(
            "digital",
            _elastic_transform,
            (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            ),
            (
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            ),
        ),
        "pixelate": Corruption(
            "digital",
            _pixelate,
            _each(0.6, 0.5, 0.4, 0.3, 0.25),
            _each(0.95, 0.9, 0.85, 0.75, 0.65),
        ),
        "jpeg_compression": Corruption(
            "digital",
            _jpeg_compression,
            _each(25, 18, 15, 10, 7),
            _each(80, 65, 58, 50, 40),
        ),
    }
)
"""The 15 corruptions by name, in the official order."""
