"""ErrorDecomposition: what a perturbation costs, by band, each number with its interval."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import (
    Condition,
    Conditions,
    Contributions,
    Split,
    listed,
)
from iaside_plugins.display.html import html_table
from iaside_plugins.display.text import plural
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import band_edges
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley import exact as shapley
from iaside_plugins.stats.intervals import Estimate, jackknife
from iaside_plugins.storage.files import jsonable, write_atomic
from iaside_plugins.storage.saved import check_arrays, check_head, read_saved

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
ROUNDING = 1e-12  # share of an energy below which single precision rounds
FORMAT = 1
GAMES = ("error", "loss")
ATTRIBUTES = (  # of the mean, under the same names in `ErrorDecomposition.to_dict`
    "clean_error",
    "clean_error_interval",
    "perturbed_error",
    "perturbed_error_interval",
    "contributions",
    "contributions_se",
    "contributions_interval",
    "loss_contributions",
    "loss_contributions_se",
    "loss_contributions_interval",
    "per_image",
    "loss_per_image",
)
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
        error, loss = (replace(self.game(game), conditions=(condition,)) for game in GAMES)
        return replace(self, error=error, loss=loss)

    # ---- of the mean over the conditions of `Contributions.mean_conditions` ----------------------
    def _mean(self, game: str = "error") -> Split:
        return self.game(game).over(self.error.mean_conditions)

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
        weights = self.error.weights(self.error.mean_conditions)
        return np.asarray(np.tensordot(weights, self.game(game).bands, axes=1))

    @property
    def values(self) -> Array | None:
        """Error of every image with each set of bands perturbed (K, 2**M); None unless exact."""
        if self.wrong is None:
            return None
        return np.asarray(
            np.tensordot(self.error.weights(self.error.mean_conditions), self.wrong, axes=1)
        )

    def repair(self, conditions: Conditions | None = None) -> dict[str, Array]:
        """Return the error that is left with the perturbation taken out of some bands.

        Args:
            conditions: Their mean; by default that of `perturbed_error`.

        Returns:
            "without_costliest" (M,): without the k bands that cost most, k = 1 to M; NaN unless
            the estimator is exact.
            "without_high" (M - 1,): without bands k to M - 1, k = 1 to M - 1, on the images on
            which that was measured.
            "without_low" (M - 1,): without bands 0 to k - 1, k = 1 to M - 1, on the same images.

        Raises:
            InputError: Unless the estimator is exact, or ``repair`` was asked for.
        """
        some = self._chosen(conditions)
        high, low = self.error.left(some)
        without_costliest = np.full(self.protocol.n_bands, np.nan)
        if self.wrong is not None:
            error, order = self.error.over(some).perturbed.value, self.costliest(some)
            for k in range(len(order)):
                won = self.repaired_without(order[: k + 1], some)
                without_costliest[k] = error - won.value
        return {
            "without_costliest": without_costliest,
            "without_high": high,
            "without_low": low,
        }

    def _chosen(self, conditions: Conditions | None) -> Sequence[Condition]:
        """Return conditions in a list; by default those of the mean."""
        return self.error.mean_conditions if conditions is None else listed(conditions)

    def interactions(self, conditions: Conditions | None = None, game: str = "error") -> Array:
        """Return the Shapley interaction index (M, M) of the mean over some conditions.

        Positive: perturbed together, two bands cost more than alone. The diagonal holds the
        contributions.

        Args:
            conditions: By default those of `contributions`.
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
        return shapley.interactions(self.error.weights(self._chosen(conditions)) @ tables)

    def repaired_without(
        self, bands: Sequence[int], conditions: Conditions | None = None
    ) -> Estimate:
        """Return by how much the error rate falls with the perturbation taken out of some bands.

        Args:
            bands: Numbers of the bands.
            conditions: Their mean; by default that of `perturbed_error`.

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
            .over(self._chosen(conditions))
            .perturbed
        )

    def costliest(self, conditions: Conditions | None = None) -> list[int]:
        """Return the bands by their contribution to the error, the greatest first."""
        bands = self.error.over(self._chosen(conditions)).bands.value
        return [int(i) for i in np.argsort(-bands, kind="stable")]

    def per_energy(self, conditions: Conditions | None = None) -> Estimate:
        """Return errors per unit of perturbation energy in each band (M,).

        The mean contribution over the mean energy, in shares of error per squared pixel; to be
        set beside the Fourier heat map. NaN in a band that is not perturbed.
        """
        weights = self.error.weights(self._chosen(conditions))
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
            split = self.game(game).over([condition])
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
            "mean_conditions": self.error.mean_conditions,
            **{name: getattr(self, name) for name in ATTRIBUTES},
        }
        for game in GAMES:
            out[game] = game_dict(self.game(game))
        for row, energy in zip(out["error"]["conditions"], self.energy.mean(axis=1), strict=True):
            row["energy"] = energy
        return {**jsonable(out), "ids": list(self.ids)}

    def game(self, name: str) -> Contributions:
        """Return the game of errors or of the loss, by its name in `GAMES`."""
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
            arrays |= {f"{game}_{part}": getattr(self.game(game), part) for part in PARTS}
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
        arrays, head = read_saved(path, "ErrorDecomposition", "decomposition", FORMAT)
        try:
            check_head(head)
            protocol = Protocol(**head.pop("protocol"))
            conditions = tuple(map(Condition.of, head.pop("conditions")))
            _check_arrays(arrays, len(conditions), len(head["ids"]), protocol.n_bands)
            games: dict[str, Any] = {
                game: Contributions(
                    conditions,
                    **{part: arrays.pop(f"{game}_{part}", None) for part in PARTS},
                    rates=game == "error",
                )
                for game in GAMES
            }
            return cls(
                protocol=protocol,
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
        mean = self.error.over(self.error.mean_conditions)
        n, own = len(self.conditions), len(self.error.mean_conditions)
        which = f"{plural(n, 'condition')}" + (f", mean of {own}" if own < n else "")
        return (
            f"ErrorDecomposition({plural(self.n_images, 'image')}, {which}, "
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
        return html_table(f"{self!r}; in points of error:", points_table(self.error, "error"))


def _check_arrays(arrays: Mapping[str, Any], n_conditions: int, n: int, m: int) -> None:
    """Raise ValueError unless the arrays of a file belong to so many conditions, images, bands."""
    parts = {
        "clean": (n,),
        "perturbed": (n_conditions, n),
        "bands": (n_conditions, n, m),
        "nested": (n_conditions, n, 2 * m - 2),
    }
    shapes = {f"{game}_{part}": shape for game in GAMES for part, shape in parts.items()}
    shapes |= {"energy": (n_conditions, n, m), "labels": (n,)}
    shapes |= {"wrong": (n_conditions, n, 2**m), "loss_table": (n_conditions, 2**m)}
    nested = {f"{game}_nested" for game in GAMES}
    check_arrays(arrays, shapes, optional=nested | {"wrong", "loss_table"}, gaps=nested)


def over_energy(means: Array) -> Array:
    """Return contributions over energies (..., M), of means of both (..., 2 M).

    NaN in a band that is not perturbed: energy below `ROUNDING` of the whole is that of numbers.
    """
    contributions, energy = np.split(means, 2, axis=-1)
    touched = energy > ROUNDING * energy.sum(axis=-1, keepdims=True)
    out = np.full(energy.shape, np.nan)
    return np.asarray(np.divide(contributions, energy, out=out, where=touched))


def points_table(game: Contributions, last: str) -> pd.DataFrame:
    """Return clean, contributions and the end in points: a row a condition, and a mean.

    The mean is over `Contributions.mean_conditions`.
    """
    import pandas as pd

    rows = []
    for one in [*game.conditions, None]:
        split = game.over(game.mean_conditions if one is None else [one])
        values = [split.clean.value, *split.bands.value, split.perturbed.value]
        rows.append(["mean" if one is None else str(one), *(100 * np.array(values))])
    bands = [f"band {i}" for i in range(game.bands.shape[2])]
    return pd.DataFrame(rows, columns=["condition", "clean", *bands, last])


def game_dict(game: Contributions) -> dict[str, Any]:
    """Return the splits of the mean and of every condition as values with intervals.

    The mean is over `Contributions.mean_conditions`.
    """
    return {
        "mean": _split_dict(game.over(game.mean_conditions), game, game.mean_conditions),
        "conditions": [
            {
                "condition": one.name,
                "level": one.level,
                **_split_dict(game.over([one]), game, [one]),
            }
            for one in game.conditions
        ],
    }


def _split_dict(
    split: Split, game: Contributions, conditions: Sequence[Condition]
) -> dict[str, Any]:
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
