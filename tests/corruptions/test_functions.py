"""The corruptions and their filters against slow, obvious oracles; no data needed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from image_files import picture

from iaside_plugins.corruptions.apply import corrupt
from iaside_plugins.corruptions.filters import (
    affine_warped,
    clipped_zoom,
    motion_blurred,
    plasma_fractal,
    smoothing_matrix,
)
from iaside_plugins.corruptions.functions import defocus_kernel

pytest.importorskip("cv2")
ndimage = pytest.importorskip("scipy.ndimage")
pytest.importorskip("PIL.Image")

Bytes = npt.NDArray[np.uint8]


def plain(image: Bytes, name: str, severity: int, seed: int = 0) -> Bytes:
    return corrupt(image, name, severity, seed=seed, jpeg=False)


def test_impulse_noise_replaces_each_byte_alone() -> None:
    image = np.full((224, 224, 3), 128, np.uint8)
    replaced = plain(image, "impulse_noise", 5)
    changed = replaced != 128
    assert set(np.unique(replaced)) == {0, 128, 255}

    def off(share: float, expected: float, n: int) -> float:
        return abs(share - expected) / math.sqrt(expected * (1 - expected) / n)

    # Four standard errors of a binomial share.
    assert off(changed.mean(), 0.27, changed.size) < 4
    assert off((replaced[changed] == 255).mean(), 0.5, int(changed.sum())) < 4
    assert off(changed.all(axis=-1).mean(), 0.27**3, 224 * 224) < 4


def test_defocus_kernels() -> None:
    rows = [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)]
    kernels = [defocus_kernel(*row) for row in rows]
    assert [kernel.shape[0] for kernel in kernels] == [17, 17, 17, 17, 21]
    sums = [float(kernel.sum()) for kernel in kernels]
    assert sums == pytest.approx([1, 1, 1, 1.012975, 1.010786], abs=2e-6)  # float32 sums


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.4), (2, 0.5), (3, 0.6)])
def test_defocus_of_small_images_smooths_single_pixels(severity: int, sigma: float) -> None:
    image = picture(32)
    side = math.exp(-1 / (2 * sigma**2))
    weights = np.array([side, 1, side]) / (1 + 2 * side)
    padded = np.pad(image / 255, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = sum(
        weights[i] * weights[j] * padded[i : i + 32, j : j + 32] for i in range(3) for j in range(3)
    )
    # One level: the kernel is float32, and the result is truncated.
    assert np.abs(plain(image, "defocus_blur", severity) - np.floor(expected * 255)).max() <= 1


def test_glass_blur_copies_pixel_by_pixel() -> None:
    image = picture(32)
    pixels = (ndimage.gaussian_filter(image / 255, (0.4, 0.4, 0)) * 255).astype(np.uint8)
    random = np.random.RandomState(3)
    for _ in range(2):
        for row in range(31, 1, -1):
            for column in range(31, 1, -1):
                right, down = random.randint(-1, 1, size=2)
                pixels[row, column] = pixels[row + down, column + right]
    expected = ndimage.gaussian_filter(pixels / 255, (0.4, 0.4, 0), mode="nearest") * 255
    assert np.array_equal(plain(image, "glass_blur", 5, seed=3)[1:], expected.astype(np.uint8)[1:])


@pytest.mark.parametrize("angle", [-130.0, -45.0, 0.0, 30.0])
def test_motion_blur_is_a_one_sided_average(angle: float) -> None:
    image = picture(24)
    expected = np.zeros(image.shape)
    weights = [math.exp(-(i**2) / 18) for i in range(21)]
    for row, column in np.ndindex(24, 24):
        for i, weight in enumerate(weights):
            y = row + math.ceil(i * math.sin(math.radians(angle)) - 0.5)
            x = column + math.ceil(i * math.cos(math.radians(angle)) - 0.5)
            pixel = image[min(max(y, 0), 23), min(max(x, 0), 23)]
            expected[row, column] += weight / sum(weights) * pixel
    expected = np.floor(257 * expected + 0.5) // 257
    assert np.array_equal(motion_blurred(image, 10, 3, angle), expected)


@pytest.mark.parametrize("factor", [1.0, 1.03, 1.2, 2.0, 2.5])
def test_clipped_zoom_is_scipy_on_the_centre(factor: float) -> None:
    image = picture(30, 41) / 255
    height, width = math.ceil(30 / factor), math.ceil(41 / factor)
    top, left = (30 - height) // 2, (41 - width) // 2
    centre = image[top : top + height, left : left + width]
    zoomed = ndimage.zoom(centre, (factor, factor, 1), order=1)
    top, left = (zoomed.shape[0] - 30) // 2, (zoomed.shape[1] - 41) // 2
    expected = zoomed[top : top + 30, left : left + 41]
    np.testing.assert_allclose(clipped_zoom(image, factor), expected, rtol=0, atol=1e-12)


def test_plasma_is_midpoint_displacement_on_a_torus() -> None:
    size, decay = 16, 1.7
    random = np.random.RandomState(6)
    points: dict[tuple[int, int], float] = {(0, 0): 0.0}
    step, wibble = size, 100.0
    while step >= 2:
        half = step // 2
        diagonal = [(half, half), (half, -half), (-half, half), (-half, -half)]
        straight = [(half, 0), (-half, 0), (0, half), (0, -half)]
        for first, second, around in (
            (half, half, diagonal),
            (0, half, straight),
            (half, 0, straight),
        ):
            noise = wibble * random.uniform(-wibble, wibble, (size // step, size // step))
            for i, j in np.ndindex(*noise.shape):
                y, x = first + i * step, second + j * step
                near = [points[(y + dy) % size, (x + dx) % size] for dy, dx in around]
                points[y, x] = sum(near) / 4 + noise[i, j]
        step, wibble = half, wibble / decay
    expected = np.array([[points[y, x] for x in range(size)] for y in range(size)])
    expected = (expected - expected.min()) / np.ptp(expected)
    plasma = plasma_fractal(np.random.RandomState(6), size, decay)
    np.testing.assert_allclose(plasma, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "sigma"), [(40, 170.8), (40, 2.44), (9, 5.0)])
def test_smoothing_matrix_is_scipys_filter(size: int, sigma: float) -> None:
    signal = np.random.RandomState(0).normal(size=size)
    expected = ndimage.gaussian_filter1d(signal, sigma, mode="reflect", truncate=3.0)
    smooth = smoothing_matrix(size, sigma, 3.0) @ signal
    np.testing.assert_allclose(smooth, expected, rtol=0, atol=1e-12)


def test_smoothing_by_nothing_is_the_identity() -> None:
    assert np.array_equal(smoothing_matrix(7, 0.0, 3.0), np.eye(7))


def test_affine_warp_reads_at_32nds_of_a_pixel() -> None:
    image = (picture(20) / 255).astype(np.float32)
    forward = np.array([[1.02, 0.05, -1.3], [-0.03, 0.97, 0.8]])
    linear = np.linalg.inv(forward[:, :2])
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect").astype(float)
    expected = np.zeros(image.shape)
    for row, column in np.ndindex(20, 20):
        across = np.rint(1024 * linear[:, 0] * column)
        down = np.rint(1024 * (linear[:, 1] * row - linear @ forward[:, 2]))
        x, y = np.floor((across + down) / 32 + 0.5) / 32
        left, top = math.floor(x), math.floor(y)
        right, bottom = x - left, y - top
        four = padded[top + 8 : top + 10, left + 8 : left + 10]
        weights = np.outer([1 - bottom, bottom], [1 - right, right])
        expected[row, column] = (weights[..., None] * four).sum(axis=(0, 1))
    # float32 arithmetic on values up to 1.
    np.testing.assert_allclose(affine_warped(image, forward), expected, rtol=0, atol=1e-6)


def test_brightness_scales_each_pixel() -> None:
    image = picture(64)
    image[0, 0] = 0
    value = image.max(axis=-1, keepdims=True) / 255
    raised = np.minimum(value + 0.15, 1)  # severity 3 of the small set
    expected = np.where(value > 0, image * raised / np.maximum(value, 1e-9), 255 * raised)
    # One level: results at whole levels are truncated either way.
    assert np.abs(plain(image, "brightness", 3) - np.floor(expected)).max() <= 1


@pytest.mark.parametrize(("severity", "n"), [(1, 30), (2, 28), (3, 27), (4, 24), (5, 20)])
def test_pixelate_reads_n_by_n_boxes(severity: int, n: int) -> None:
    image = picture(32)

    def shrink(line: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Mean of the samples whose centres lie in each box, along the first axis."""
        scale = 32 / n
        boxes = [
            [j for j in range(32) if -0.5 < (j + 0.5 - (i + 0.5) * scale) / scale <= 0.5]
            for i in range(n)
        ]
        means = [line[box].astype(float).mean(axis=0) for box in boxes]
        return np.floor(np.array(means) + 0.5).astype(np.uint8)

    small = shrink(shrink(image.swapaxes(0, 1)).swapaxes(0, 1))
    nearest = ((np.arange(32) + 0.5) * n / 32).astype(int)
    assert np.array_equal(plain(image, "pixelate", severity), small[nearest][:, nearest])
