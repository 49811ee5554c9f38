"""ErrorDecomposition: what a perturbation costs, by band, each number with its interval."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Condition, Contributions, Split
from iaside_plugins.display.html import html_table
from iaside_plugins.display.text import number
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.importance import comparison
from iaside_plugins.importance.comparison import Comparison, check_same_labels, same_images
from iaside_plugins.importance.result import SpectralImportance, band_edges
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley import exact as shapley
from iaside_plugins.stats.intervals import Estimate, jackknife
from iaside_plugins.storage.files import jsonable, parse_json, read_npz, write_atomic
from iaside_plugins.value_table.stream import numbered

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
ROUNDING = 1e-12  # share of an energy below which single precision rounds
SAME_LOSS = 0.05  # of 1 nat and the loss: another batch size or half precision moves it by less
Conditions = Iterable[Condition | tuple[str, float] | str] | None
FORMAT = 1
GAMES = ("error", "loss")
PARTS = ("clean", "perturbed", "bands", "nested")


@dataclass(frozen=True, eq=False)
class ErrorDecomposition:
    """What C perturbations cost one model on K images, split over M bands.

    ``error under a perturbation = error on clean images + sum of the bands' contributions``, for
    every image and so for every mean; the same for the loss. Intervals are 95 %, over images.

    Attributes:
        protocol: Every choice that changes a number.
        error: Game of errors: 1 where an image is misclassified, so that means are shares; times
            100 they are percentage points.
        loss: Game of the loss, ``-log softmax`` of the class, in nats.
        energy: Energy of the perturbation in each band (C, K, M), in squared pixels.
        wrong: Whether each image is misclassified with each set of bands perturbed
            (C, K, 2**M), bit i of the last index = band i; None unless the estimator is exact.
        loss_table: Mean loss with each set of bands perturbed (C, 2**M); None unless exact.
        labels: Class of every image (K,).
        ids: Name or digest of every image, in order.
        image_size: Height and width of the model's input.
        n_classes: Number of the model's outputs.
        n_forward: Images that went through the model in this run (0 if all rows were resumed).
        precision: Of the forward passes.
        forwards: What makes them faster; empty for the plain model.
        label_space: As of a `SpectralImportance`.
    """

    protocol: Protocol
    error: Contributions
    loss: Contributions
    energy: Array
    wrong: npt.NDArray[np.bool_] | None
    loss_table: Array | None
    labels: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    image_size: tuple[int, int]
    n_classes: int
    n_forward: int
    precision: str
    forwards: tuple[str, ...] = ()
    label_space: str = ""

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.ids)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The C conditions."""
        return self.error.conditions

    @property
    def efficiency_residual(self) -> float:
        """Greatest residual of any image in either game: rounding only."""
        return max(self.error.efficiency_residual, self.loss.efficiency_residual)

    def band_edges(self) -> Array:
        """Return band edges (M + 1,) in cycles/image, see `SpectralPartition`."""
        return band_edges(self.protocol, self.image_size)

    def called(self, condition: Condition) -> ErrorDecomposition:
        """Return the same of a single condition under another name."""
        error, loss = (replace(self._game(game), conditions=(condition,)) for game in GAMES)
        return replace(self, error=error, loss=loss)

    # ---- of the mean over conditions: the corruptions, or all where there are none ---------------
    def _mean(self, game: str = "error") -> Split:
        return self._game(game).over(self.error.corruptions)

    @property
    def clean_error(self) -> float:
        """Share of the images that are misclassified without perturbation."""
        return float(self._mean().clean.value)

    @property
    def clean_error_interval(self) -> Array:
        """95 % interval of `clean_error` (2,)."""
        return self._mean().clean.interval

    @property
    def perturbed_error(self) -> float:
        """Share of the images that are misclassified under the perturbation."""
        return float(self._mean().perturbed.value)

    @property
    def perturbed_error_interval(self) -> Array:
        """95 % interval of `perturbed_error` (2,)."""
        return self._mean().perturbed.interval

    @property
    def contributions(self) -> Array:
        """Contributions of the bands (M,), shares: `perturbed_error` less `clean_error` in all."""
        return self._mean().bands.value

    @property
    def contributions_se(self) -> Array:
        """Standard errors of `contributions` (M,)."""
        return self._mean().bands.se

    @property
    def contributions_interval(self) -> Array:
        """95 % intervals of `contributions` (M, 2)."""
        return self._mean().bands.interval

    @property
    def loss_contributions(self) -> Array:
        """Contributions of the bands to the loss (M,), nats."""
        return self._mean("loss").bands.value

    @property
    def loss_contributions_se(self) -> Array:
        """Standard errors of `loss_contributions` (M,)."""
        return self._mean("loss").bands.se

    @property
    def loss_contributions_interval(self) -> Array:
        """95 % intervals of `loss_contributions` (M, 2)."""
        return self._mean("loss").bands.interval

    @property
    def per_image(self) -> Array:
        """Contributions of the bands to the error on every image (K, M), see `contributions`."""
        return self._of_images("error")

    @property
    def loss_per_image(self) -> Array:
        """Contributions of the bands to the loss of every image (K, M), nats."""
        return self._of_images("loss")

    def _of_images(self, game: str) -> Array:
        weights = self.error.weights(self.error.corruptions)
        return np.asarray(np.tensordot(weights, self._game(game).bands, axes=1))

    @property
    def values(self) -> Array | None:
        """Error of every image with each set of bands perturbed (K, 2**M); None unless exact."""
        if self.wrong is None:
            return None
        return np.asarray(
            np.tensordot(self.error.weights(self.error.corruptions), self.wrong, axes=1)
        )

    def repair(self, conditions: Conditions = None) -> dict[str, Array]:
        """Return the error that is left with the perturbation taken out of some bands.

        Args:
            conditions: Their mean; by default of the corruptions, or of all where there are none.

        Returns:
            "without_costliest" (M,): without the k bands that cost most, k = 1 to M.
            "without_high" (M - 1,): without bands k to M - 1, k = 1 to M - 1.
            "without_low" (M - 1,): without bands 0 to k - 1, k = 1 to M - 1.

        Raises:
            InputError: Unless the estimator is exact; see `Contributions.repaired` for others.
        """
        some = self.error.corruptions if conditions is None else tuple(conditions)
        order = self.costliest(some)
        high, low = self.error.repaired(some)
        error = self.error.over(some).perturbed.value
        won = [self.repaired_without(order[:k], some).value for k in range(1, len(order) + 1)]
        return {
            "without_costliest": error - np.array(won),
            "without_high": error - high.value,
            "without_low": error - low.value,
        }

    def interactions(self, conditions: Conditions = None, game: str = "error") -> Array:
        """Return the Shapley interaction index (M, M) of the mean over some conditions.

        Positive: perturbed together, two bands cost more than alone. The diagonal holds the
        contributions.

        Args:
            conditions: By default all.
            game: "error" or "loss".

        Raises:
            InputError: Unless the estimator is exact; of the loss, also if decompositions of
                different images were joined.
        """
        tables = self.loss_table
        if game == "error":
            tables = None if self.wrong is None else self.wrong.mean(axis=1)
        if tables is None:
            raise InputError(
                "interactions need every set of bands on the same images: use estimator='exact'"
            )
        return shapley.interactions(self.error.weights(conditions) @ tables)

    def repaired_without(self, bands: Sequence[int], conditions: Conditions = None) -> Estimate:
        """Return by how much the error rate falls with the perturbation taken out of some bands.

        Args:
            bands: Numbers of the bands.
            conditions: Their mean; by default of all.

        Raises:
            InputError: Unless the estimator is exact, and for a band that there is not.
        """
        m = self.protocol.n_bands
        if self.wrong is None:
            raise InputError("this needs every set of bands: use estimator='exact'")
        if not set(bands) <= set(range(m)):
            raise InputError(f"bands are numbered 0 to {m - 1}, got {list(bands)}")
        left = 2**m - 1 - sum(1 << i for i in set(bands))
        won = self.error.perturbed - self.wrong[:, :, left]
        return (
            Contributions(self.conditions, np.zeros(self.n_images), won, won[:, :, None])
            .over(conditions)
            .perturbed
        )

    def costliest(self, conditions: Conditions = None) -> list[int]:
        """Return the bands by their contribution to the error, the greatest first."""
        return [int(i) for i in np.argsort(-self.error.over(conditions).bands.value, kind="stable")]

    def per_energy(self, conditions: Conditions = None) -> Estimate:
        """Return errors per unit of perturbation energy in each band (M,).

        The mean contribution over the mean energy, in shares of error per squared pixel; to be
        set beside the Fourier heat map. NaN in a band that is not perturbed.
        """
        weights = self.error.weights(conditions)
        rows = [np.tensordot(weights, x, axes=1) for x in (self.error.bands, self.energy)]
        return jackknife(np.concatenate(rows, axis=1), over_energy)

    def to_frame(self, game: str = "error") -> pd.DataFrame:
        """Return one row a condition and band: contribution with its interval, energy.

        Args:
            game: "error" (shares) or "loss" (nats).
        """
        import pandas as pd

        rows = []
        for k, condition in enumerate(self.conditions):
            split = self._game(game).over([condition])
            energy = self.energy[k].mean(axis=0)
            for i, value in enumerate(split.bands.value):
                low, high = split.bands.interval[i]
                rows.append([*condition, i, value, low, high, energy[i]])
        columns = ["condition", "level", "band", "contribution", "low", "high", "energy"]
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the splits of every condition and of their mean as JSON values, in both games."""
        out: dict[str, Any] = {
            "protocol": self.protocol.to_dict(),
            "n_images": self.n_images,
            "n_classes": self.n_classes,
            "n_forward": self.n_forward,
            "precision": self.precision,
            "forwards": list(self.forwards),
            "image_size": list(self.image_size),
            "band_edges": self.band_edges(),
            "efficiency_residual": self.efficiency_residual,
        }
        for game in GAMES:
            out[game] = _game_dict(self._game(game))
        for row, energy in zip(out["error"]["conditions"], self.energy.mean(axis=1), strict=True):
            row["energy"] = energy
        return {**jsonable(out), "ids": list(self.ids)}

    def _game(self, name: str) -> Contributions:
        if name not in GAMES:
            raise InputError(f"game must be 'error' or 'loss', got {name!r}")
        return self.loss if name == "loss" else self.error

    def save(self, path: Path | str) -> None:
        """Write the result to an .npz file (no pickle), whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        head = {
            "decomposition": FORMAT,
            "protocol": asdict(self.protocol),
            "conditions": self.conditions,
            "ids": self.ids,
            "image_size": self.image_size,
            "n_classes": self.n_classes,
            "n_forward": self.n_forward,
            "precision": self.precision,
            "forwards": self.forwards,
            "label_space": self.label_space,
        }
        arrays: dict[str, Any] = {"energy": self.energy, "labels": self.labels}
        arrays |= {"wrong": self.wrong, "loss_table": self.loss_table}
        for game in GAMES:
            arrays |= {f"{game}_{part}": getattr(self._game(game), part) for part in PARTS}
        given = {name: array for name, array in arrays.items() if array is not None}
        with io.BytesIO() as file:
            np.savez_compressed(file, head=np.array(json.dumps(head)), **given)
            write_atomic(Path(path), file.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> ErrorDecomposition:
        """Load the result that `save` wrote; nothing in the file is executed.

        Raises:
            InputError: If the file is not a saved result, or of a later version.
        """
        try:
            arrays: dict[str, Any] = read_npz(Path(path))
            head = parse_json(str(arrays.pop("head")))
            version = head.pop("decomposition")
            if version != FORMAT:
                raise InputError(f"{path} was written by another version of iaside-plugins")
            conditions = tuple(Condition(*one) for one in head.pop("conditions"))
            games: dict[str, Any] = {
                game: Contributions(
                    conditions,
                    **{part: arrays.pop(f"{game}_{part}", None) for part in PARTS},
                    rates=game == "error",
                )
                for game in GAMES
            }
            return cls(
                protocol=Protocol(**head.pop("protocol")),
                ids=tuple(head.pop("ids")),
                image_size=tuple(head.pop("image_size")),
                forwards=tuple(head.pop("forwards")),
                wrong=arrays.pop("wrong", None),
                loss_table=arrays.pop("loss_table", None),
                **games,
                **arrays,
                **head,
            )
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{path} is not a saved ErrorDecomposition: {error}") from error

    def __repr__(self) -> str:
        mean = self.error.over(self.error.corruptions)
        n = len(self.conditions)
        return (
            f"ErrorDecomposition({self.n_images} images, {n} condition{'s' * (n != 1)}, "
            f"{self.protocol.n_bands} bands, error {100 * float(mean.clean.value):.1f} % -> "
            f"{100 * float(mean.perturbed.value):.1f} %)"
        )

    def plot(self, name: str = "") -> Figure:
        """Plot contributions by condition and band in a new figure (needs matplotlib).

        Args:
            name: Name of the model, for the title.
        """
        from iaside_plugins.decomposition.plots import plot_decomposition

        return plot_decomposition(self, name)

    def _repr_html_(self) -> str:
        return html_table(f"{self!r}; in points of error:", _points(self.error, "error"))


@dataclass(frozen=True, eq=False)
class DecompositionDifference:
    """First model minus second on the same images and conditions, with paired intervals.

    Attributes:
        error: Difference of the games of errors.
        loss: Difference of the games of the loss.
        protocol: The protocol of both.
        ids: Name or digest of every image, in order.
        band_edges: Band edges of the first (M + 1,) in cycles/image.
    """

    error: Contributions
    loss: Contributions
    protocol: Protocol
    ids: tuple[str, ...]
    band_edges: Array

    def plot(self, first: str = "first", second: str = "second") -> Figure:
        """Plot the difference by condition and band in a new figure (needs matplotlib).

        Args:
            first: Name of the first model.
            second: Name of the second.
        """
        from iaside_plugins.decomposition.plots import plot_difference

        return plot_difference(self, first, second)

    def __repr__(self) -> str:
        mean = self.error.over(self.error.corruptions).perturbed
        found = number(100 * float(mean.value), *(100 * mean.interval), spec="+.1f", unit=" points")
        return (
            f"DecompositionDifference({len(self.ids)} images, {len(self.error.conditions)} "
            f"conditions, error {found})"
        )

    def _repr_html_(self) -> str:
        return html_table(repr(self), _points(self.error, "difference"))

    def to_dict(self) -> dict[str, Any]:
        """Return the splits of every condition and of their mean as JSON values, in both games."""
        games = {"error": self.error, "loss": self.loss}
        out = {name: _game_dict(game) for name, game in games.items()}
        return {"n_images": len(self.ids), **jsonable(out)}


def over_energy(means: Array) -> Array:
    """Return contributions over energies (..., M), of means of both (..., 2 M).

    NaN in a band that is not perturbed: energy below `ROUNDING` of the whole is that of numbers.
    """
    contributions, energy = np.split(means, 2, axis=-1)
    touched = energy > ROUNDING * energy.sum(axis=-1, keepdims=True)
    out = np.full(energy.shape, np.nan)
    return np.asarray(np.divide(contributions, energy, out=out, where=touched))


def combine(parts: Sequence[ErrorDecomposition]) -> ErrorDecomposition:
    """Return one decomposition of the conditions of several, on the images that all of them have.

    Args:
        parts: Of one model, each of other conditions.

    Raises:
        InputError: For no parts, parts of different protocols, models or labels, or no image in
            common.
    """
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
        games = [part._game(name).at(own) for part, own in zip(parts, rows, strict=True)]
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
    for one in (first, second):
        if not isinstance(one, ErrorDecomposition):
            raise InputTypeError(
                f"expected two results of error_decomposition, got {type(one).__name__}; "
                "importances are compared by compare(first, second)"
            )
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
    return DecompositionDifference(
        first.error - second.error.at(order),
        first.loss - second.loss.at(order),
        first.protocol,
        first.ids,
        first.band_edges(),
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


def _alike(first: ErrorDecomposition, second: ErrorDecomposition) -> bool:
    """Whether two protocols give equal decompositions: beta, of the scores, is not used."""
    return replace(first.protocol, beta=second.protocol.beta).same(second.protocol)


def _points(game: Contributions, last: str) -> pd.DataFrame:
    """Return clean, contributions and the end in points: a row a condition, and a mean.

    The mean is over the corruptions, where there are some.
    """
    import pandas as pd

    rows = []
    for one in [*game.conditions, None]:
        split = game.over(game.corruptions if one is None else [one])
        values = [split.clean.value, *split.bands.value, split.perturbed.value]
        rows.append(["mean" if one is None else str(one), *(100 * np.array(values))])
    bands = [f"band {i}" for i in range(game.bands.shape[2])]
    return pd.DataFrame(rows, columns=["condition", "clean", *bands, last])


def _game_dict(game: Contributions) -> dict[str, Any]:
    """Return the splits of the mean and of every condition as values with intervals.

    The mean is over the corruptions, where there are some.
    """
    return {
        "mean": _split_dict(game.over(game.corruptions), game, game.corruptions),
        "conditions": [
            {
                "condition": one.name,
                "level": one.level,
                **_split_dict(game.over([one]), game, [one]),
            }
            for one in game.conditions
        ],
    }


def _split_dict(split: Split, game: Contributions, conditions: Conditions) -> dict[str, Any]:
    """Return a split, and what taking bands out repairs, as values with intervals."""
    out: dict[str, Any] = {
        name: _with_interval(getattr(split, name)) for name in ("clean", "bands", "perturbed")
    }
    out["added"] = _with_interval(split.added)
    if game.nested is not None:
        out["n_repaired"] = game.won().shape[1]
        high, low = game.repaired(conditions)
        out["repaired_without_high"] = _with_interval(high)
        out["repaired_without_low"] = _with_interval(low)
    return out


def _with_interval(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": estimate.interval}
