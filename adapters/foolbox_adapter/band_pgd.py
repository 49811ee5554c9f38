"""An attack whose perturbation is confined to chosen spectral bands: a causal check of importance.

If a model is weak in the bands that are important to it, an attack of the same budget inside such a
band alone should succeed more often than inside another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.masked_model import as_bands
from iaside_plugins.adapters.foolbox_adapter.models import foolbox, native, restorer
from iaside_plugins.adapters.foolbox_adapter.pixel_space import PixelSpace
from iaside_plugins.errors import InputError
from iaside_plugins.integers import as_integer
from iaside_plugins.spectral.band_maps import image_size, keep_bands
from iaside_plugins.spectral.partition import SpectralPartition

KEPT = ("bands", "bounds")
ROUNDS = 5  # projections onto bands and bounds in turn, a step
_TINY = 1e-12  # a zero gradient stays zero


class BandRestrictedPGD(foolbox().attacks.base.FixedEpsilonAttack):  # type: ignore[misc]  # no types
    """Projected gradient ascent on the cross-entropy inside some bands, in Foolbox's style.

    Every step goes along the gradient's part in the bands, and the perturbation is projected back:
    onto the bands, into the ball of radius epsilon (by scaling, which stays in the bands), and
    towards the model's bounds, in turn (alternating projections). Both constraints cannot be met
    exactly by images that touch their bounds, so `keep` says which one is.

    Deterministic: there is no random start. Bands are those of pixel space, see
    `SpectralMaskModel`.

    Args:
        bands: Numbers of the bands, or one bool a band; at least one.
        n_bands: Number of bands.
        norm: "L2" or "Linf", of the budget.
        band_norm: "chebyshev" or "euclidean".
        steps: Gradient steps.
        rel_stepsize: Step size over epsilon.
        keep: "bands" (no energy outside them beyond rounding; pixels may leave the bounds by a
            little, unclipped) or "bounds" (valid images; a little energy leaks out of the bands).

    Raises:
        InputError: No band, a band that does not exist, or another value out of range.
    """

    def __init__(
        self,
        bands: Any,
        *,
        n_bands: int = 8,
        norm: str = "L2",
        band_norm: str = "chebyshev",
        steps: int = 40,
        rel_stepsize: float = 0.05,
        keep: str = "bands",
    ) -> None:
        self.partition = SpectralPartition(n_bands, band_norm)
        self.bands = as_bands(bands, n_bands)
        if not self.bands:
            raise InputError("a band-restricted attack needs at least one band")
        if norm not in ("L2", "Linf"):
            raise InputError(f"expected norm 'L2' or 'Linf', got {norm!r}")
        if keep not in KEPT:
            raise InputError(f"keep must be one of {', '.join(KEPT)}, got {keep!r}")
        if not rel_stepsize > 0:
            raise InputError(f"rel_stepsize must be above 0, got {rel_stepsize!r}")
        self.steps = as_integer("steps", steps, 1)
        self.norm, self.rel_stepsize, self.keep = norm, rel_stepsize, keep

    @property
    def distance(self) -> Any:
        """Foolbox's distance of the norm."""
        distances = foolbox().distances
        return distances.l2 if self.norm == "L2" else distances.linf

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Return perturbed inputs; called by Foolbox.

        Raises:
            InputError: For a criterion without labels or target classes.
        """
        foolbox().attacks.base.raise_if_kwargs(kwargs)
        known = foolbox().attacks.base.get_criterion(criterion)
        labels, ascend = _aim(known)
        restore, space = restorer(inputs), PixelSpace(model)
        start = native(inputs)
        lower, upper = space.bounds
        radius = epsilon / (upper - lower)  # in pixel space
        clean = space.enter(start).detach()
        index = self.partition.index(*image_size(clean))
        delta = torch.zeros_like(clean)
        for _ in range(self.steps):
            step = self._direction(model, space, clean + delta, labels, index)
            delta = delta + ascend * self.rel_stepsize * radius * step
            delta = self._project(delta, clean, radius, index)
        return restore(space.leave(clean + delta))

    def _direction(
        self, model: Any, space: PixelSpace, pixels: Tensor, labels: Tensor, index: Tensor
    ) -> Tensor:
        """Return the steepest ascent in the bands, of norm 1 (L2) or greatest change 1 (Linf)."""
        with torch.enable_grad():
            x = pixels.detach().requires_grad_()
            loss = torch.nn.functional.cross_entropy(
                native(model(space.leave(x))).float(), labels, reduction="sum"
            )
            (gradient,) = torch.autograd.grad(loss, x)
        gradient = keep_bands(gradient, index, self.bands)
        if self.norm == "Linf":
            gradient = keep_bands(gradient.sign(), index, self.bands)
        return gradient / self._size(gradient).clamp_min(_TINY)

    def _project(self, delta: Tensor, clean: Tensor, radius: float, index: Tensor) -> Tensor:
        """Project into the bands, the ball and the bounds; the constraint of `keep` comes last."""
        for _ in range(ROUNDS):
            delta = self._shrunk(keep_bands(delta, index, self.bands), radius)
            clipped = (clean + delta).clamp(0, 1) - clean
            if torch.equal(clipped, delta):
                return delta
            delta = clipped
        if self.keep == "bounds":
            return delta  # clipping towards the clean image made no perturbation larger
        return self._shrunk(keep_bands(delta, index, self.bands), radius)

    def _shrunk(self, delta: Tensor, radius: float) -> Tensor:
        return delta * (radius / self._size(delta).clamp_min(_TINY)).clamp_max(1)

    def _size(self, delta: Tensor) -> Tensor:
        order = 2 if self.norm == "L2" else float("inf")
        size: Tensor = torch.linalg.vector_norm(delta, ord=order, dim=(1, 2, 3), keepdim=True)
        return size


def _aim(criterion: Any) -> tuple[Tensor, int]:
    """Return labels, and the sign of the loss's change: 1, or -1 for a targeted attack."""
    if hasattr(criterion, "labels"):
        return native(criterion.labels), 1
    if hasattr(criterion, "target_classes"):
        return native(criterion.target_classes), -1
    raise InputError(
        f"expected Misclassification or TargetedMisclassification, got {type(criterion).__name__}"
    )
