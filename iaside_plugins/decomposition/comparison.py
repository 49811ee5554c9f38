"""Several decompositions on the same images: of one model together, of two models compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Contributions
from iaside_plugins.decomposition.result import ErrorDecomposition, game_dict, points_table
from iaside_plugins.display.html import html_table
from iaside_plugins.display.text import number, plural
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.importance import comparison
from iaside_plugins.importance.comparison import Comparison, check_same_labels, same_images
from iaside_plugins.importance.result import PREDICTED, SpectralImportance
from iaside_plugins.inference.logits import say_once
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import jsonable
from iaside_plugins.value_table.stream import numbered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
OTHER = 0.5  # of a perturbation's energies by band: another seed or resize changes less
SAME_LOSS = 0.05  # of 1 nat and the loss: another batch size or half precision moves it by less


@dataclass(frozen=True, eq=False)
class DecompositionDifference:
    """First model minus second on the same images and conditions, with paired intervals.

    Attributes:
        error: Difference of the games of errors.
        loss: Difference of the games of the loss.
        protocol: The protocol of both.
        ids: Name or digest of every image, in order.
        band_edges: Band edges of the first (M + 1,) in cycles/image.
        predicted: Whether each model is held against its own predictions: errors are those that
            changed.
    """

    error: Contributions
    loss: Contributions
    protocol: Protocol
    ids: tuple[str, ...]
    band_edges: Array
    predicted: bool = False

    def plot(self, first: str = "first", second: str = "second") -> Figure:
        """Plot the difference by condition and band in a new figure (needs matplotlib).

        Args:
            first: Name of the first model.
            second: Name of the second.
        """
        from iaside_plugins.decomposition.plots import plot_difference

        return plot_difference(self, first, second)

    def __repr__(self) -> str:
        mean, n = self.error.over(self.error.mean_conditions).perturbed, len(self.error.conditions)
        ends = (100 * mean.interval).clip(-100, 100)
        found = number(100 * float(mean.value), *ends, spec="+.1f", unit=" points")
        return (
            f"DecompositionDifference({len(self.ids)} images, {plural(n, 'condition')}, "
            f"error {found})"
        )

    def _repr_html_(self) -> str:
        return html_table(repr(self), points_table(self.error, "difference"))

    def to_dict(self) -> dict[str, Any]:
        """Return the splits of every condition and of their mean as JSON values, in both games."""
        games = {"error": self.error, "loss": self.loss}
        out = {name: game_dict(game) for name, game in games.items()}
        return {"n_images": len(self.ids), **jsonable(out)}


def combine(
    parts: Iterable[ErrorDecomposition] | Mapping[Any, ErrorDecomposition],
) -> ErrorDecomposition:
    """Return one decomposition of the conditions of several, on the images that all of them have.

    Args:
        parts: Of one model, each of other conditions; or the mapping that `error_decomposition`
            returns of a mapping.

    Raises:
        InputError: For no parts, parts of different protocols, models or labels, or no image in
            common.
        InputTypeError: For other results, such as importances.
    """
    parts = list(parts.values() if isinstance(parts, Mapping) else parts)
    _check_types(parts)
    if not parts:
        raise InputError("expected decompositions to combine, got none")
    first = parts[0]
    if len(parts) == 1:
        return first
    places = [{name: k for k, name in enumerate(numbered(part.ids))} for part in parts]
    names = [name for name in places[0] if all(name in own for own in places)]
    if not names or not all(_alike(first, part) for part in parts):
        raise InputError("expected decompositions of one protocol with images in common")
    ids = tuple(name for name, _ in names)
    rows = [[own[name] for name in names] for own in places]
    for part, own in zip(parts[1:], rows[1:], strict=True):
        check_same_labels(first, part, rows[0], own)
        loss, other = first.loss.clean[rows[0]], part.loss.clean[own]
        off = np.abs(other - loss)
        if part.n_classes != first.n_classes or (off > SAME_LOSS * (1 + loss)).any():
            raise InputError(
                "expected decompositions of one model: losses on the same clean images differ by "
                f"up to {off.max():.2g} nats"
            )

    def game(name: str) -> Contributions:
        games = [part.game(name).at(own) for part, own in zip(parts, rows, strict=True)]
        measured = [one.nested for one in games if one.nested is not None]
        nested = np.concatenate(measured) if len(measured) == len(games) else None
        if nested is not None and np.isnan(nested).any(axis=(0, 2)).all():
            nested = None  # no image has it under all conditions
        return Contributions(
            tuple(condition for one in games for condition in one.conditions),
            games[0].clean,
            np.concatenate([one.perturbed for one in games]),
            np.concatenate([one.bands for one in games]),
            nested,
            games[0].rates,
        )

    tables = [part.loss_table for part in parts if part.loss_table is not None]
    whole = len(tables) == len(parts) and all(part.n_images == len(ids) for part in parts)
    wrong = [p.wrong[:, own] for p, own in zip(parts, rows, strict=True) if p.wrong is not None]
    return replace(
        first,
        error=game("error"),
        loss=game("loss"),
        energy=np.concatenate([p.energy[:, own] for p, own in zip(parts, rows, strict=True)]),
        wrong=np.concatenate(wrong) if wrong else None,
        loss_table=np.concatenate(tables) if whole else None,  # means over all images of a part
        labels=first.labels[rows[0]],
        ids=ids,
        n_forward=sum(part.n_forward for part in parts),
    )


def difference(first: ErrorDecomposition, second: ErrorDecomposition) -> DecompositionDifference:
    """Return first minus second, paired over images.

    Models may differ in input size as long as the images carry names that say they are the same.
    Their order may differ.

    Raises:
        InputError: If the images, their labels, the conditions or the protocols differ.
        InputTypeError: For other results, such as importances.
    """
    _check_types((first, second))
    if not _alike(first, second):
        raise InputError(
            f"decompositions of different protocols cannot be compared: "
            f"{first.protocol.protocol_id} and {second.protocol.protocol_id}"
        )
    if first.conditions != second.conditions:
        only = sorted(map(str, set(first.conditions) ^ set(second.conditions)))
        what = f"only one has {only[0]}" if only else "their order differs"
        raise InputError(f"expected the same conditions in the same order: {what}")
    order = same_images(first.ids, second.ids)
    check_same_labels(first, second, range(first.n_images), order)
    _say_other_perturbations(first, second, order)
    return DecompositionDifference(
        first.error - second.error.at(order),
        first.loss - second.loss.at(order),
        first.protocol,
        first.ids,
        first.band_edges(),
        first.label_space == PREDICTED,
    )


@overload
def compare(first: SpectralImportance, second: SpectralImportance) -> Comparison: ...


@overload
def compare(first: ErrorDecomposition, second: ErrorDecomposition) -> DecompositionDifference: ...


def compare(first: Any, second: Any) -> Comparison | DecompositionDifference:
    """Return first minus second of two results on the same images, with paired intervals.

    Models may differ in input size as long as the images carry names (`ids`) that say they are the
    same, and in the order of the images, but not in the numbering of the classes. Of two
    decompositions it is their `difference`.

    Raises:
        InputError: If the images, their labels, the conditions or the protocols differ.
        InputTypeError: For other results, or one of each kind.
    """
    if isinstance(first, ErrorDecomposition):
        return difference(first, second)
    return comparison.compare(first, second)


def _check_types(parts: Iterable[Any]) -> None:
    for one in parts:
        if not isinstance(one, ErrorDecomposition):
            raise InputTypeError(
                f"expected results of error_decomposition, got {type(one).__name__}; "
                "importances are compared by compare(first, second)"
            )


def _say_other_perturbations(
    first: ErrorDecomposition, second: ErrorDecomposition, order: Sequence[int]
) -> None:
    """Log where the same images are perturbed otherwise; each model is attacked by itself."""
    if first.image_size != second.image_size:
        return
    ours, theirs = first.energy, second.energy[:, order]
    apart = np.abs(ours - theirs).sum(axis=2) > OTHER * np.maximum(ours, theirs).sum(axis=2)
    for condition, n in zip(first.conditions, apart.sum(axis=1), strict=True):
        if 2 * n > first.n_images and not isinstance(condition.level, float):
            say_once(
                first,
                f"{n} of {first.n_images} images are perturbed otherwise in the other result under "
                f"{condition} (energies by band): the difference is that of the perturbations, too",
            )


def _alike(first: ErrorDecomposition, second: ErrorDecomposition) -> bool:
    """Whether two protocols give equal decompositions: beta, of the scores, is not used."""
    return replace(first.protocol, beta=second.protocol.beta).same(second.protocol)
