"""Spectral importance of a Foolbox model, called like an attack."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from iaside_plugins.adapters.foolbox_adapter.inputs import checked_labels, labels_of
from iaside_plugins.adapters.foolbox_adapter.models import native
from iaside_plugins.adapters.foolbox_adapter.pixel_space import PixelSpace, pixel_model, pixels_of
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.inference.forward import PRECISIONS
from iaside_plugins.integers import as_integer
from iaside_plugins.protocol import Protocol, protocol_or

MASK_SPACE = "pixel"


@dataclass(frozen=True, eq=False, repr=False)
class FoolboxImportance(SpectralImportance):
    """A `SpectralImportance` with the space in which the bands are defined.

    Attributes:
        mask_space: "pixel": bounds mapped to [0, 1], before any normalisation inside the model.
            In normalised space the same bands would differ in DC: an absent band 0 is black here
            and would be mean grey there.
        bounds: Of the Foolbox model.
    """

    mask_space: str = MASK_SPACE
    bounds: tuple[float, float] = (0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the values of `SpectralImportance.to_dict` with the mask space and the bounds."""
        return {"mask_space": self.mask_space, "bounds": list(self.bounds), **super().to_dict()}


class SpectralEvaluator:
    """Spectral importance of a Foolbox model: ``evaluator(fmodel, inputs, criterion)``.

    Its only state is its hyper-parameters, which its repr shows.

    Args:
        protocol: Settings that change the numbers; by default ``Protocol()``.
        batch_size: Images in one forward pass.
        precision: As for `spectral_importance`.
        choices: Single fields of the protocol to change: n_bands, band_norm, absence,
            range_handling, estimator, n_permutations, n_coalitions, beta, temperature, ...

    Examples::

        >>> evaluator = SpectralEvaluator(n_bands=8)
        >>> result = evaluator(fmodel, images, labels)  # beside fb.accuracy(fmodel, images, labels)
        >>> attacked = evaluator(fmodel, clipped[k], labels)  # the images that an attack made

    Raises:
        InputError: For an unknown choice, or a value out of range.
    """

    def __init__(
        self,
        *,
        protocol: Protocol | None = None,
        batch_size: int = 64,
        precision: str = "float32",
        **choices: Any,
    ) -> None:
        unknown = sorted(set(choices) - {field.name for field in fields(Protocol)})
        if unknown:
            known = ", ".join(field.name for field in fields(Protocol))
            raise InputError(f"unknown hyper-parameter {unknown[0]!r}; known: {known}")
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.protocol = replace(protocol_or(protocol, Protocol()), **choices)
        self.batch_size = as_integer("batch_size", batch_size, 1)
        self.precision = precision

    def __call__(
        self, fmodel: Any, inputs: Any, criterion: Any, *, show_progress: bool = False
    ) -> FoolboxImportance:
        """Return the spectral importance of a model on a batch of images, with intervals over them.

        The model is neither moved nor changed, and gradients and generators stay as they are.

        Args:
            fmodel: Any Foolbox model of PyTorch tensors: wrapped, with transformed bounds, or a
                custom class with `bounds` and a call.
            inputs: Images within its bounds, native or EagerPy, in its own layout.
            criterion: True classes (N,), integers of any kind, or `Misclassification`.
            show_progress: Whether to show a progress bar on stderr.

        Raises:
            InputError: Another criterion, images out of bounds, no images, a network in training
                mode or on two devices, and as `spectral_importance`.
            InputTypeError: Not a Foolbox model, or not PyTorch's floating-point tensors.
        """
        space = PixelSpace(fmodel)
        pixels = pixels_of(space, native(inputs), self.precision)
        labels = checked_labels(labels_of(criterion), len(pixels)).cpu()
        with pixel_model(fmodel, space, pixels) as (model, device):
            result = spectral_importance(
                model,
                (pixels, labels),
                self.protocol,
                device=device,
                batch_size=self.batch_size,
                precision=self.precision,
                show_progress=show_progress,
            )
        return FoolboxImportance(**vars(result), bounds=space.bounds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpectralEvaluator) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.protocol, self.batch_size, self.precision))

    def __repr__(self) -> str:
        default, choices = Protocol(), self.protocol
        shown = {
            name: value
            for name, value in vars(choices).items()
            if name in ("n_bands", "band_norm", "absence", "estimator")
            or value != getattr(default, name)
        }
        shown |= {"batch_size": self.batch_size, "precision": self.precision}
        return f"SpectralEvaluator({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


def spectral_score(
    fmodel: Any, inputs: Any, labels: Any, *, signed: bool = False, **hyper_parameters: Any
) -> float:
    """Return the spectral robustness score of a Foolbox model on a batch, like ``fb.accuracy``.

    Args:
        fmodel: Any Foolbox model of PyTorch tensors.
        inputs: Images within its bounds.
        labels: True classes (N,), or `Misclassification`.
        signed: Whether to return the signed score, which tells high from low frequencies.
        hyper_parameters: Arguments of `SpectralEvaluator`, which also gives intervals.

    Raises:
        InputError: As `SpectralEvaluator`.
    """
    result = SpectralEvaluator(**hyper_parameters)(fmodel, inputs, labels)
    return result.signed_score if signed else result.score
