"""Slow, obvious versions of the method in float64, and networks and images small enough for them.

Nothing here calls the package: every function restates a definition, one bin, one coalition, one
image at a time, in exact fractions or in complex128, so that a mistake made once is not made twice.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import nn

Model = Callable[[torch.Tensor], torch.Tensor]
FilteredBatch = Callable[[np.ndarray, Sequence[int]], np.ndarray]


# ---- bands and coalition images -----------------------------------------------------------------
def band_of_bin(y: int, x: int, height: int, width: int, n_bands: int, norm: str) -> int:
    """Band of one bin of the unshifted grid: the greatest i with i/M <= r, at most M - 1.

    In fractions, so that no rounding decides on which side of an edge a bin lies.
    """
    fy = Fraction(min(y, height - y), 1) / Fraction(height, 2)
    fx = Fraction(min(x, width - x), 1) / Fraction(width, 2)
    squared = max(fy, fx) ** 2 if norm == "chebyshev" else (fy**2 + fx**2) / 2
    band = 0
    while band + 1 < n_bands and Fraction(band + 1, n_bands) ** 2 <= squared:
        band += 1
    return band


def band_masks(n_bands: int, height: int, width: int, norm: str = "chebyshev") -> np.ndarray:
    """Masks (n_bands, H, W) bool on the unshifted grid."""
    masks = np.zeros((n_bands, height, width), dtype=bool)
    for y, x in itertools.product(range(height), range(width)):
        masks[band_of_bin(y, x, height, width, n_bands, norm), y, x] = True
    return masks


def coalition_image(
    image: np.ndarray, baseline: np.ndarray, masks: np.ndarray, coalition: Sequence[int]
) -> np.ndarray:
    """The image's bands in the coalition and the baseline's outside it, (C, H, W), by full FFTs."""
    out = np.zeros(image.shape, dtype=np.float64)
    for channel in range(len(image)):
        own = np.fft.fft2(image[channel].astype(np.complex128))
        other = np.fft.fft2(baseline[channel].astype(np.complex128))
        mixed = np.zeros_like(own)
        for band, mask in enumerate(masks):
            mixed[mask] = own[mask] if band in coalition else other[mask]
        filtered = np.fft.ifft2(mixed)
        assert abs(filtered.imag).max() < 1e-9, "a band of a real image came out complex"
        out[channel] = filtered.real
    return out


def in_range(image: np.ndarray, range_handling: str) -> np.ndarray:
    """One coalition image after range handling."""
    if range_handling == "clip":
        return np.minimum(np.maximum(image, 0.0), 1.0)
    if range_handling == "rescale":
        low, high = image.min(), image.max()
        return (image - low) / (high - low) if high > low else np.zeros_like(image)
    return image


def members(coalition: int, n_bands: int) -> list[int]:
    """Bands of a coalition, given by its index: bit i says whether band i is in it."""
    return [band for band in range(n_bands) if (coalition // 2**band) % 2 == 1]


# ---- characteristic function --------------------------------------------------------------------
def log_likelihood(model: Model, image: np.ndarray, label: int, temperature: float = 1.0) -> float:
    """Log softmax of one image's label in nats, from the definition, the model in double."""
    with torch.no_grad():
        logits = model(torch.from_numpy(image)[None])[0].double().numpy() / temperature
    top = logits.max()
    return float(logits[label] - top - math.log(sum(math.exp(z - top) for z in logits)))


def value_table(
    model: Model,
    images: np.ndarray,
    labels: Sequence[int],
    n_bands: int,
    *,
    norm: str = "chebyshev",
    baselines: np.ndarray | None = None,
    range_handling: str = "none",
    temperature: float = 1.0,
) -> np.ndarray:
    """Value table (K, 2**n_bands): one forward pass an image and coalition."""
    baselines = np.zeros_like(images) if baselines is None else baselines
    masks = band_masks(n_bands, *images.shape[2:], norm)
    table = np.zeros((len(images), 2**n_bands))
    for k, s in itertools.product(range(len(images)), range(2**n_bands)):
        mixed = coalition_image(images[k], baselines[k], masks, members(s, n_bands))
        mixed = in_range(mixed, range_handling)
        table[k, s] = log_likelihood(model, mixed, int(labels[k]), temperature)
    return table


# ---- Shapley values and score -------------------------------------------------------------------
def shapley_by_orders(values: np.ndarray) -> np.ndarray:
    """Mean marginal contribution over all M! orders in which bands can join."""
    m = round(math.log2(len(values)))
    total = np.zeros(m)
    for order in itertools.permutations(range(m)):
        coalition = 0
        for band in order:
            total[band] += values[coalition + 2**band] - values[coalition]
            coalition += 2**band
    return total / math.factorial(m)


def shapley_by_subsets(values: np.ndarray) -> np.ndarray:
    """The sum over coalitions without the band, each with its weight."""
    m = round(math.log2(len(values)))
    psi = np.zeros(m)
    for band in range(m):
        others = [other for other in range(m) if other != band]
        for size in range(m):
            weight = math.factorial(size) * math.factorial(m - size - 1) / math.factorial(m)
            for subset in itertools.combinations(others, size):
                s = sum(2**other for other in subset)
                psi[band] += weight * (values[s + 2**band] - values[s])
    return psi


def kernel_regression(
    n_bands: int,
    coalitions: Sequence[int],
    values: Sequence[float],
    weights: Sequence[float],
    ends: tuple[float, float],
) -> np.ndarray:
    """Weighted least squares of v(S) - v(empty) on membership, the sum fixed by a multiplier.

    One dense system for the bands and the multiplier of ``sum(psi) = v(grand) - v(empty)``.

    Args:
        n_bands: Number of bands M.
        coalitions: Their indices, neither empty nor grand.
        values: v(S) of each.
        weights: Of each equation.
        ends: Values of the empty and the grand coalition.
    """
    system = np.zeros((n_bands + 1, n_bands + 1))
    right = np.zeros(n_bands + 1)
    for coalition, value, weight in zip(coalitions, values, weights, strict=True):
        inside = members(coalition, n_bands)
        for i in inside:
            right[i] += weight * (value - ends[0])
            for j in inside:
                system[i, j] += weight
    system[n_bands, :n_bands] = system[:n_bands, n_bands] = 1
    right[n_bands] = ends[1] - ends[0]
    return np.linalg.solve(system, right)[:n_bands]


def cross_fitted_regression(
    n_bands: int, pairs: Sequence[int], values: np.ndarray, n_folds: int
) -> np.ndarray:
    """The mean over folds of a fit without the fold, and what the fit leaves, pair by pair.

    Args:
        n_bands: Number of bands M.
        pairs: One coalition of each pair, those of one size in random order.
        values: Value table (2**M,).
        n_folds: Pairs of a size go to the folds in turn, unless all of that size are there.
    """
    grand = 2**n_bands - 1
    ends = float(values[0]), float(values[grand])

    @functools.cache
    def size(s: int) -> int:
        return min(len(members(s, n_bands)), n_bands - len(members(s, n_bands)))

    def there(s: int) -> float:
        return math.comb(n_bands, size(s)) / (2 if 2 * size(s) == n_bands else 1)

    def kernel(s: int) -> float:
        return 1 / (math.comb(n_bands, size(s)) * size(s) * (n_bands - size(s)))

    fold = {}
    for s in pairs:
        alike = [t for t in pairs if size(t) == size(s)]
        fold[s] = alike.index(s) % n_folds if len(alike) < there(s) else None
    total = np.zeros(n_bands)
    for k in range(n_folds):
        seen = [s for s in pairs if fold[s] != k]
        weights = [
            kernel(s) * there(s) / sum(size(t) == size(s) for t in seen) for s in (*seen, *seen)
        ]
        both = [*seen, *(grand - s for s in seen)]
        fit = kernel_regression(n_bands, both, [float(values[s]) for s in both], weights, ends)
        total += fit
        for s in pairs:
            inside = members(s, n_bands)
            odd = (ends[1] - ends[0] + values[s] - values[grand - s]) / 2
            left = odd - sum(fit[i] for i in inside)
            if fold[s] == k:
                unseen = there(s) - sum(size(t) == size(s) for t in seen)
                left *= unseen / sum(size(t) == size(s) and fold[t] == k for t in pairs)
            for i in range(n_bands):
                row = (i in inside) - len(inside) / n_bands
                total[i] += 2 * n_bands * kernel(s) * row * left
    return total / n_folds


def interactions(values: np.ndarray) -> np.ndarray:
    """Pairwise Shapley interaction index; the Shapley values on the diagonal."""
    m = round(math.log2(len(values)))
    out = np.diag(shapley_by_subsets(values))
    for i, j in itertools.permutations(range(m), 2):
        others = [other for other in range(m) if other not in (i, j)]
        for size in range(m - 1):
            weight = math.factorial(size) * math.factorial(m - size - 2) / math.factorial(m - 1)
            for subset in itertools.combinations(others, size):
                t = sum(2**other for other in subset)
                pair, single = values[t + 2**i + 2**j], values[t + 2**i] + values[t + 2**j]
                out[i, j] += weight * (pair - single + values[t])
    return out


def distribution(psi: Sequence[float]) -> list[float]:
    """(psi - min psi) over its sum."""
    raised = [value - min(psi) for value in psi]
    return [value / sum(raised) for value in raised]


def signed_score(p: Sequence[float], beta: float = 0.75) -> float:
    """(<p, b> / ||b||_2 - eta) / |1 - eta|, eta = ||b||_1 / (M ||b||_2), b_i = beta^i."""
    weights = [beta**i for i in range(len(p))]
    length = math.sqrt(sum(w * w for w in weights))
    eta = sum(weights) / (len(p) * length)
    return (sum(a * b for a, b in zip(p, weights, strict=True)) / length - eta) / abs(1 - eta)


# ---- the released script, as described ----------------------------------------------------------
def script_boxes(n_bands: int, size: int) -> np.ndarray:
    """Box 0 to M of the shifted spectrum, (n_bands + 1, size, size), bin by bin."""
    boxes = np.zeros((n_bands + 1, size, size), dtype=bool)
    for i, y, x in itertools.product(range(n_bands + 1), range(size), range(size)):
        side = int(size * i / n_bands)
        start = (size - side) // 2
        boxes[i, y, x] = start <= y < start + side and start <= x < start + side
    return boxes


def script_batch(
    batch: np.ndarray, coalition: Sequence[int], rings: np.ndarray, absent: np.ndarray | None = None
) -> np.ndarray:
    """One coalition of one batch (B, C, H, W): modulus, then minimum and maximum of the batch.

    Args:
        batch: Images.
        coalition: Bands in it.
        rings: Masks (n_bands, H, W) of the *shifted* spectrum.
        absent: What stands in elsewhere, on the unshifted spectrum (B, C, H, W); zero by default.
    """
    out = np.zeros(batch.shape)
    for k, c in itertools.product(range(batch.shape[0]), range(batch.shape[1])):
        own = np.fft.fftshift(np.fft.fft2(batch[k, c].astype(np.complex128)))
        mixed = np.zeros_like(own) if absent is None else np.fft.fftshift(absent[k, c])
        for band in coalition:
            mixed = np.where(rings[band], own, mixed)
        out[k, c] = np.abs(np.fft.ifft2(np.fft.ifftshift(mixed)))
    out -= out.min()
    top = out.max()
    return np.clip(out / top, 0, 1) if top > 0 else out


def script_table(
    model: Model,
    images: np.ndarray,
    labels: Sequence[int],
    n_bands: int,
    *,
    image_batch: int = 10,
    rings: np.ndarray | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    """Value table (K, 2**n_bands) of the released script: zero baseline, fixed unshuffled batches.

    Its global value of a coalition is the column mean; a row is not the image's own.
    """
    if rings is None:
        boxes = script_boxes(n_bands, images.shape[2])
        rings = boxes[1:] & ~boxes[:-1]
    table = np.zeros((len(images), 2**n_bands))
    for s, start in itertools.product(range(2**n_bands), range(0, len(images), image_batch)):
        batch = images[start : start + image_batch]
        mixed = script_batch(batch, members(s, n_bands), rings)
        for k, image in enumerate(mixed, start=start):
            table[k, s] = log_likelihood(model, image, int(labels[k]), temperature)
    return table


# ---- small networks and images ------------------------------------------------------------------
class TinyNet(nn.Module):
    """One convolution, a curve, a mean, a linear layer: sees every band, any size and channels."""

    def __init__(self, n_classes: int = 3, channels: int = 3, seed: int = 0, scale: float = 6.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(channels, 5, 3, padding=1)
            self.head = nn.Linear(5, n_classes)
        self.scale = scale
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, n_classes)."""
        features = torch.sigmoid(self.scale * self.conv(images)).mean(dim=(2, 3))
        return self.scale * self.head(features)


class Recorder(nn.Module):
    """Keeps a copy of every image it is given; equal logits for all classes."""

    def __init__(self, n_classes: int = 3):
        super().__init__()
        self.seen: list[torch.Tensor] = []
        self.n_classes = n_classes
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, n_classes) zeros."""
        self.seen.append(images.clone())
        return images.new_zeros(len(images), self.n_classes)

    def images(self) -> np.ndarray:
        """All images in the order they came, (n, C, H, W)."""
        return torch.cat(self.seen).double().numpy()


def sample(
    n_images: int = 4,
    size: tuple[int, int] = (12, 12),
    channels: int = 3,
    n_classes: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] with a falling spectrum, as photographs have, and labels."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None, :]
    fall = 1 / (0.05 + np.hypot(fy, fx))
    white = np.fft.fft2(rng.standard_normal((n_images, channels, *size)))
    images = np.fft.ifft2(white * fall).real
    low, high = images.min(axis=(1, 2, 3), keepdims=True), images.max(axis=(1, 2, 3), keepdims=True)
    images = (images - low) / (high - low)
    return torch.from_numpy(images).to(dtype), torch.from_numpy(
        rng.integers(n_classes, size=n_images)
    )
