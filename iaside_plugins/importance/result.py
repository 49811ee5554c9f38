"""SpectralImportance: what the value table says, each number with its interval over images."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.html import html_table
from iaside_plugins.errors import InputError
from iaside_plugins.importance import ties
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.importance.forecast import Forecast, Spectrum, forecast, survival
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley import exact as shapley
from iaside_plugins.shapley.score import importance_distribution, score, score_range, signed_score
from iaside_plugins.spectral.partition import BAND_NORMS, SpectralPartition
from iaside_plugins.stats.intervals import Estimate, jackknife
from iaside_plugins.storage.files import jsonable, write_atomic
from iaside_plugins.storage.saved import check_arrays, check_head, read_saved

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]
FORMAT = 1
PREDICTED = "predicted"  # label space of a model's own predictions
OPTIONAL = ("values", "hits", "per_image_accuracy")  # arrays that not every result has
ATTRIBUTES = (
    "n_images",
    "n_classes",
    "n_forward",
    "precision",
    "forwards",
    "image_size",
    "clean_accuracy",
    "shapley_values",
    "shapley_se",
    "accuracy_shapley_values",
    "distribution",
    "distribution_interval",
    "score",
    "score_interval",
    "score_bias",
    "signed_score",
    "signed_score_interval",
    "signed_score_bias",
    "tied_bands",
    "efficiency_residual",
    "value_table",
    "per_image",
    "values",
    "labels",
    "ids",
)


@dataclass(frozen=True, eq=False)
class SpectralImportance:
    """Spectral importance of one model on one set of images.

    K images, M bands. Intervals are 95 % delete-one jackknife intervals over images; those of the
    scores are wider where bands tie at the minimum (see `tied_bands`).

    Attributes:
        protocol: Every choice that changes a number.
        per_image: Shapley values of every image (K, M), in nats.
        ends: Log-likelihood of every image under the empty and the grand coalition (K, 2), nats.
        values: Value table of every image (K, 2**M) in nats, bit i of the column = band i; None
            unless the estimator is exact.
        labels: Class of every image (K,).
        ids: Name or digest of every image, in order.
        correct: Whether the grand coalition of every image is classified correctly (K,).
        n_classes: Number of the model's outputs.
        n_forward: Images that went through the model in this run (0 if all rows were resumed).
        image_size: Height and width of the model's input.
        precision: Of the forward passes.
        forwards: What makes them faster (names of `inference.forward.Step`); empty for the plain
            model.
        hits: Whether every coalition of every image is classified correctly (K, 2**M); None
            unless the estimator is exact.
        per_image_accuracy: Shapley values of every image (K, M) in the game of those hits: they
            sum to the accuracy of the grand coalition less that of the empty one. None in files
            of earlier versions.
        label_space: What the labels are: "imagenet", `PREDICTED`, ...; empty where the data do not
            say, and in files of earlier versions.
    """

    protocol: Protocol
    per_image: Array
    ends: Array
    values: Array | None
    labels: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    correct: npt.NDArray[np.bool_]
    n_classes: int
    n_forward: int
    image_size: tuple[int, int]
    precision: str
    forwards: tuple[str, ...] = ()
    hits: npt.NDArray[np.bool_] | None = None
    per_image_accuracy: Array | None = None
    label_space: str = ""

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.per_image)

    @property
    def clean_accuracy(self) -> float:
        """Share of images whose grand coalition is classified correctly, in [0, 1].

        The grand coalition is the image itself, except under "rescale" and the released
        script's rescaling.
        """
        return float(self.correct.mean())

    @property
    def shapley_values(self) -> Array:
        """Shapley values (M,) in nats: the means over images."""
        return np.asarray(self.per_image.mean(axis=0))

    @property
    def accuracy_shapley_values(self) -> Array | None:
        """Shapley values (M,) of the accuracy, shares of 1: means of `per_image_accuracy`."""
        per_image = self.per_image_accuracy
        return None if per_image is None else np.asarray(per_image.mean(axis=0))

    @property
    def shapley_se(self) -> Array:
        """Standard errors (M,) of the Shapley values over images; NaN for a single image."""
        if self.n_images < 2:
            return np.full(self.protocol.n_bands, np.nan)
        return np.asarray(self.per_image.std(axis=0, ddof=1) / np.sqrt(self.n_images))

    @property
    def evidence(self) -> Evidence:
        """Shapley values with intervals, and which intervals exclude 0."""
        return Evidence.of(self.shapley_values, self.shapley_se)

    @cached_property
    def _distribution(self) -> Estimate:
        return jackknife(self.per_image, importance_distribution)

    @cached_property
    def _signed(self) -> Estimate:
        beta = self.protocol.beta
        return ties.estimate(self.per_image, lambda shares: signed_score(shares, beta))

    @cached_property
    def _score(self) -> Estimate:
        beta = self.protocol.beta
        return ties.estimate(self.per_image, lambda shares: score(shares, beta))

    @property
    def distribution(self) -> Array:
        """Importance distribution (M,) in [0, 1], sum 1: the values less the least, for the score.

        It says nothing of how much evidence a band holds; see `evidence`.
        """
        return self._distribution.value

    @property
    def distribution_interval(self) -> Array:
        """Interval of every share (M, 2), cut to [0, 1]."""
        return np.asarray(np.clip(self._distribution.interval, 0, 1))

    @property
    def score(self) -> float:
        """Spectral robustness score in [0, `score_range`]; folds: see `signed_score`."""
        return float(self._score.value)

    @property
    def score_interval(self) -> Array:
        """Interval of the score (2,), cut to its range."""
        low, high = score_range(self.protocol.n_bands, self.protocol.beta)
        return np.asarray(np.clip(self._score.interval, 0, max(-low, high)))

    @property
    def score_bias(self) -> float:
        """Jackknife estimate of the score's bias (reported, not subtracted)."""
        return float(self._score.bias)

    @property
    def signed_score(self) -> float:
        """The score without its absolute value: positive leans to low bands, negative to high."""
        return float(self._signed.value)

    @property
    def signed_score_interval(self) -> Array:
        """Interval of the signed score (2,), cut to its range."""
        low, high = score_range(self.protocol.n_bands, self.protocol.beta)
        return np.asarray(np.clip(self._signed.interval, low, high))

    @property
    def signed_score_bias(self) -> float:
        """Jackknife estimate of the signed score's bias (reported, not subtracted)."""
        return float(self._signed.bias)

    @property
    def tied_bands(self) -> list[int]:
        """Bands not distinguishable from the least important one, itself first.

        Band j is tied where the paired difference of its Shapley value to the least one's is
        within 1.96 standard errors. With two or more the scores are biased towards 0, as the
        minimum of tied estimates lies below each, and their intervals also reach over what the
        tied bands give as one (see `ties`).
        """
        return ties.tied_bands(self.per_image)

    @property
    def value_table(self) -> Array | None:
        """Characteristic function (2**M,) in nats: the mean of `values`; None if estimated."""
        return None if self.values is None else np.asarray(self.values.mean(axis=0))

    @property
    def efficiency_residual(self) -> float:
        """Sum of Shapley values - (v(grand) - v(empty)) in nats: rounding only."""
        ends = self.ends.mean(axis=0)
        return float(self.shapley_values.sum() - (ends[1] - ends[0]))

    def interactions(self, order: int = 2) -> Array:
        """Return the Shapley interaction index (M, M) in nats, Shapley values on the diagonal.

        Args:
            order: 2, or 1 for the Shapley values (M,) alone.

        Raises:
            InputError: For another order, or without a value table (the estimator is not exact).
        """
        if order == 1:
            return self.shapley_values
        if order != 2:
            raise InputError(f"order must be 1 or 2, got {order!r}")
        table = self.value_table
        if table is None:
            raise InputError("interactions need the value table: use estimator='exact'")
        return shapley.interactions(table)

    def forecast(self, spectrum: Spectrum) -> Forecast:
        """Return the error under a perturbation, forecast from its spectrum and these images.

        Args:
            spectrum: Of `perturbation_spectrum`, shipped (`spectra.stored.shipped_spectra`), or
                read from a file (`spectra.stored.load_spectra`).

        Raises:
            InputError: Without the hit of every coalition (the estimator is not exact), or for a
                spectrum of other bands or another image size.
        """
        self.check_forecast()
        partition = SpectralPartition(self.protocol.n_bands, self.protocol.band_norm)
        height, width = self.image_size
        signal, noise = spectrum.band_means(partition, (int(height), int(width)))
        assert self.hits is not None
        return forecast(self.hits, survival(signal, noise))

    def check_forecast(self) -> None:
        """Raise InputError unless `forecast` has what it needs of this result."""
        check_forecast(self.protocol)
        if self.hits is None:
            raise InputError(
                "a forecast needs the hit of every coalition, which results of earlier versions "
                "lack: run again"
            )

    def band_edges(self) -> Array:
        """Return band edges (M + 1,) in cycles/image, see `SpectralPartition`."""
        return band_edges(self.protocol, self.image_size)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a band: cycles/image, Shapley value, standard error, share, interval."""
        import pandas as pd

        edges, interval = self.band_edges(), self.distribution_interval
        return pd.DataFrame(
            {
                "band": np.arange(self.protocol.n_bands),
                "low": edges[:-1],
                "high": edges[1:],
                "shapley_value": self.shapley_values,
                "se": self.shapley_se,
                "share": self.distribution,
                "share_low": interval[:, 0],
                "share_high": interval[:, 1],
            }
        )

    def by_class(self) -> pd.DataFrame:
        """Return one row a class: label, n_images, accuracy, Shapley values, standard errors.

        `band_i` is the mean over the class's images and `se_i` its standard error, in nats; NaN
        for a single image.
        """
        import pandas as pd

        bands = range(self.protocol.n_bands)
        frame = pd.DataFrame(self.per_image, columns=[f"band_{i}" for i in bands])
        grouped = frame.groupby(self.labels)
        errors = grouped.sem().rename(columns={f"band_{i}": f"se_{i}" for i in bands})
        out = pd.concat([grouped.mean(), errors], axis=1).rename_axis("label").reset_index()
        accuracy = pd.Series(self.correct.astype(float)).groupby(self.labels).mean()
        out.insert(1, "n_images", grouped.size().to_numpy())
        out.insert(2, "accuracy", accuracy.to_numpy())
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name as JSON values (NaN becomes None), with the protocol."""
        out = {name: jsonable(getattr(self, name)) for name in ATTRIBUTES}
        return {"protocol": self.protocol.to_dict(), **out}

    def save(self, path: Path | str) -> None:
        """Write the result to an .npz file (no pickle), whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        arrays = {name: one for name, one in values.items() if isinstance(one, np.ndarray)}
        head = {
            "format": FORMAT,
            **{k: v for k, v in values.items() if k not in (*arrays, *OPTIONAL)},
            "protocol": asdict(self.protocol),
        }
        with io.BytesIO() as file:
            np.savez_compressed(file, head=np.array(json.dumps(head)), **arrays)  # type: ignore[arg-type]
            write_atomic(Path(path), file.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> SpectralImportance:
        """Load the result that `save` wrote, or what the folder of a resumable run holds by now.

        Nothing in the file is executed; neither the model nor the images are needed.

        Raises:
            InputError: If the file is not a saved result, or of a later version.
        """
        if Path(path).is_dir():
            from iaside_plugins.importance.run import read_run

            return read_run(path)
        arrays, head = read_saved(path, "SpectralImportance", "format", FORMAT)
        try:
            known = {one.name for one in fields(cls)}  # an adapter's result may hold more
            held: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in head.items()
                if name in known
            }
            check_head(held)
            protocol = held["protocol"] = Protocol(**head["protocol"])
            n, m = len(held["ids"]), protocol.n_bands
            table = (n, 2**m)
            shapes = {"per_image": (n, m), "ends": (n, 2), "labels": (n,), "correct": (n,)}
            shapes |= {"values": table, "hits": table, "per_image_accuracy": (n, m)}
            check_arrays(arrays, shapes, optional=OPTIONAL)
            given: dict[str, Any] = {**dict.fromkeys(OPTIONAL), **arrays, **held}
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a saved SpectralImportance: {error}") from error

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot Shapley values with intervals, on `ax` or a new figure (needs matplotlib)."""
        from iaside_plugins.display.plots import plot_profile

        return plot_profile(self, ax=ax)

    def __repr__(self) -> str:
        low, high = self.signed_score_interval
        ends = f" [{low:+.3f}, {high:+.3f}]" if self.n_images > 1 else ""
        return (
            f"SpectralImportance({self.n_images} images, {self.protocol.n_bands} bands, signed "
            f"score {self.signed_score:+.3f}{ends}, {self.protocol.protocol_id})"
        )

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.to_frame())


def check_forecast(protocol: Protocol) -> None:
    """Raise InputError unless results of a protocol can be asked for a forecast."""
    if protocol.estimator != "exact":
        raise InputError(
            "a forecast needs every coalition: use estimator='exact', "
            f"got estimator={protocol.estimator!r}"
        )
    if protocol.band_norm not in BAND_NORMS:
        raise InputError(
            f"a forecast needs bands that partition the spectrum: use band_norm="
            f"{' or '.join(BAND_NORMS)}, got {protocol.band_norm}"
        )


def band_edges(protocol: Protocol, image_size: Sequence[int]) -> Array:
    """Return band edges (M + 1,) in cycles/image of a protocol at an image size (height, width)."""
    norm = "euclidean" if protocol.band_norm == "euclidean" else "chebyshev"  # boxes are square
    return SpectralPartition(protocol.n_bands, norm).edges_in_cycles(image_size[0], image_size[1])
