"""FourierHeatMap: errors by frequency, and their means by band with intervals."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.html import html_table
from iaside_plugins.errors import InputError
from iaside_plugins.heatmap.basis import (
    axis_frequencies,
    half_frequencies,
    mirrored,
    weights_of,
)
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.stats.intervals import rate_interval, wilson
from iaside_plugins.storage.files import jsonable, write_atomic
from iaside_plugins.storage.saved import check_arrays, check_head, read_saved

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
FORMAT = 1
ARRAYS = ("frequencies", "clean_wrong", "wrong", "labels")
HEAD = ("norm", "step", "seed", "image_size", "n_classes", "n_forward", "precision", "ids")


@dataclass(frozen=True, eq=False)
class FourierHeatMap:
    """Errors of one model on K images under noise of one frequency at a time, F frequencies.

    Errors are shares of images in [0, 1]; intervals are 95 %, over images.

    Attributes:
        norm: L2 norm of the noise in each channel, before clipping, on the scale of [0, 1].
        step: Frequencies are multiples of it on each axis.
        seed: Of the random signs.
        partition: The bands.
        image_size: Height and width of the images.
        frequencies: (ky, kx) in cycles/image (F, 2), one of k and -k.
        clean_wrong: Whether each image is misclassified without noise (K,).
        wrong: Whether each image is misclassified with noise of every frequency (K, F).
        labels: Class of every image (K,).
        ids: Name or digest of every image, in order.
        n_classes: Number of the model's outputs.
        n_forward: Images that went through the model in this run (0 if all rows were resumed).
        precision: Of the forward passes.
    """

    norm: float
    step: int
    seed: int
    partition: SpectralPartition
    image_size: tuple[int, int]
    frequencies: npt.NDArray[np.int64]
    clean_wrong: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    n_classes: int
    n_forward: int
    precision: str

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.ids)

    @property
    def clean_error(self) -> float:
        """Error without noise, in [0, 1]."""
        return float(self.clean_wrong.mean())

    @property
    def clean_error_interval(self) -> tuple[float, float]:
        """Wilson's interval of the error without noise."""
        return wilson(float(self.clean_wrong.sum()), self.n_images)

    @property
    def error(self) -> Array:
        """Error under noise of every frequency (F,), in [0, 1]."""
        return np.asarray(self.wrong.mean(axis=0))

    @property
    def bands(self) -> npt.NDArray[np.int64]:
        """Band of every frequency (F,)."""
        return np.asarray(self.partition.index(*self.image_size).numpy()[tuple(self.frequencies.T)])

    @property
    def per_image(self) -> Array:
        """Error of every image over the frequencies of every band (K, M); NaN for an empty band.

        A frequency counts twice, for k and -k, unless they are the same bin.
        """
        weights = weights_of(self.frequencies, self.image_size)
        members = self.bands == np.arange(self.partition.n_bands)[:, None]
        sums = (weights * members).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.wrong @ sums.T / sums.sum(axis=1))

    @property
    def band_means(self) -> Array:
        """Mean error over the frequencies of every band (M,); NaN for a band without any."""
        return np.asarray(self.per_image.mean(axis=0))

    @property
    def band_means_interval(self) -> Array:
        """Interval of every band mean (M, 2), over images."""
        return np.array([rate_interval(column) for column in self.per_image.T])

    def band_edges(self) -> Array:
        """Return band edges (M + 1,) in cycles/image, see `SpectralPartition`."""
        return self.partition.edges_in_cycles(*self.image_size)

    def grid(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
        """Return ky (Y,), kx (X,), ascending, and the error at each (Y, X): both halves."""
        ky, kx = (axis_frequencies(n, self.step) for n in self.image_size)
        out = np.full((len(ky), len(kx)), np.nan)
        for half in (self.frequencies, mirrored(self.frequencies, self.image_size)):
            places = np.searchsorted(ky, half[:, 0]), np.searchsorted(kx, half[:, 1])
            out[places] = self.error
        return ky, kx, out

    def to_frame(self) -> pd.DataFrame:
        """Return one row a band: cycles/image, number of frequencies, error with its interval."""
        import pandas as pd

        edges, interval = self.band_edges(), self.band_means_interval
        m = self.partition.n_bands
        return pd.DataFrame(
            {
                "band": np.arange(m),
                "low": edges[:-1],
                "high": edges[1:],
                "n_frequencies": np.bincount(self.bands, minlength=m),
                "error": self.band_means,
                "error_low": interval[:, 0],
                "error_high": interval[:, 1],
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return errors by band and by frequency as JSON values, with what they depend on."""
        clean = {"value": self.clean_error, "interval": self.clean_error_interval}
        out = {
            **{name: getattr(self, name) for name in HEAD[:-1]},
            "n_images": self.n_images,
            "n_bands": self.partition.n_bands,
            "band_norm": self.partition.norm,
            "band_edges": self.band_edges(),
            "clean_error": clean,
            "band_means": {"value": self.band_means, "interval": self.band_means_interval},
            "frequencies": self.frequencies,
            "error": self.error,
            "ids": self.ids,
        }
        found: dict[str, Any] = jsonable(out)
        return found

    def save(self, path: Path | str) -> None:
        """Write the result to an .npz file (no pickle), whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        head = {"fourier_heat_map": FORMAT, **{name: getattr(self, name) for name in HEAD}}
        head |= {"n_bands": self.partition.n_bands, "band_norm": self.partition.norm}
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        with io.BytesIO() as file:
            np.savez_compressed(file, head=np.array(json.dumps(head)), **arrays)
            write_atomic(Path(path), file.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> FourierHeatMap:
        """Load the result that `save` wrote; nothing in the file is executed.

        Raises:
            InputError: If the file is not a saved heat map, or of a later version.
        """
        arrays, head = read_saved(path, "FourierHeatMap", "fourier_heat_map", FORMAT)
        try:
            check_head(head)
            partition = SpectralPartition(head.pop("n_bands"), head.pop("band_norm"))
            partition.index(*head["image_size"])
            wanted = half_frequencies(head["image_size"], head["step"])
            n, f = len(head["ids"]), len(wanted)
            shapes = {"frequencies": (f, 2), "clean_wrong": (n,), "wrong": (n, f), "labels": (n,)}
            check_arrays(arrays, shapes)
            if not np.array_equal(arrays["frequencies"], wanted):
                raise ValueError("its frequencies are not those of its step and image size")
            return cls(
                partition=partition,
                image_size=tuple(head.pop("image_size")),
                ids=tuple(head.pop("ids")),
                **head,
                **arrays,
            )
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{path} is not a saved FourierHeatMap: {error}") from error

    def plot(self, name: str = "") -> Figure:
        """Plot the map and the means of its bands in a new figure (needs matplotlib).

        Args:
            name: Name of the model, for the title.
        """
        from iaside_plugins.heatmap.plots import plot_heatmap

        return plot_heatmap(self, name)

    def __repr__(self) -> str:
        return (
            f"FourierHeatMap({self.n_images} images, norm {self.norm:g}, "
            f"{len(self.frequencies)} frequencies, error {100 * self.clean_error:.1f} % -> "
            f"{100 * float(np.nanmin(self.band_means)):.1f} to "
            f"{100 * float(np.nanmax(self.band_means)):.1f} % by band)"
        )

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.to_frame())
