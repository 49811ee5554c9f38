"""How far attributions of bands by several methods agree, on the same images.

Each figure has an interval over images. Methods are compared in pairs, in two ways: on their mean
profiles (the global explanations) and image by image (the local ones, averaged).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.html import html_table
from iaside_plugins.errors import InputError
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.protocol import Protocol
from iaside_plugins.stats.correlation import STATISTICS, normalised
from iaside_plugins.stats.intervals import (
    bootstrap_means,
    mean_interval,
    median_interval,
    percentile_interval,
)
from iaside_plugins.storage.files import jsonable, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
FORMAT = 1
MEASURES = ("residual", "infidelity", "sensitivity", "rows", "gradient_rows", "seconds")


@dataclass(frozen=True, eq=False)
class BandMethod:
    """What one method said of K images, and what it took.

    Attributes:
        name: Short name.
        title: Name in tables.
        complete: Whether the values of an image should sum to value(image) - value(baseline).
        signed: Whether they have a sign and a unit (nats).
        per_image: (K, n_bands).
        residual: (K,) sum of an image's values - (value(image) - value(baseline)), in nats.
        infidelity: (K,) in nats squared.
        sensitivity: (K,) relative change; NaN where it was not measured.
        rows: (K,) forward passes of an image.
        gradient_rows: (K,) those of them that went backward too.
        seconds: (K,) wall-clock time.
    """

    name: str
    title: str
    complete: bool
    signed: bool
    per_image: Array
    residual: Array
    infidelity: Array
    sensitivity: Array
    rows: Array
    gradient_rows: Array
    seconds: Array


@dataclass(frozen=True, eq=False)
class AgreementReport:
    """Attributions of bands by several methods on the same images, and how far they agree.

    Attributes:
        methods: The methods; the first is the one that the others are set against.
        protocol: Bands, absence and estimator of I-ASIDE.
        image_size: Height and width of the model's input.
        ids: Name or digest of every image, in order.
        info: What else is known: the model, the metrics' settings, provenance.
    """

    methods: tuple[BandMethod, ...]
    protocol: Protocol
    image_size: tuple[int, int]
    ids: tuple[str, ...]
    info: Mapping[str, Any]

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.ids)

    @cached_property
    def _drawn(self) -> Array:
        """Mean profiles of resampled images, (n, methods, n_bands): one draw for all figures."""
        rows = np.stack([method.per_image for method in self.methods], axis=1)
        if self.n_images < 2:
            return np.full((1, *rows.shape[1:]), np.nan)
        return bootstrap_means(rows.reshape(len(rows), -1)).reshape(-1, *rows.shape[1:])

    @property
    def names(self) -> list[str]:
        """Short names of the methods."""
        return [method.name for method in self.methods]

    def profiles(self) -> pd.DataFrame:
        """Return one row a method and band: mean attribution and share, with 95 % intervals.

        Attributions are in nats (Saliency: without unit). A share is the band's part of the summed
        absolute values, with a bootstrap interval; it keeps its sign.
        """
        import pandas as pd

        parts = []
        for k, method in enumerate(self.methods):
            shares = normalised(method.per_image.mean(axis=0))
            intervals = percentile_interval(normalised(self._drawn[:, k]))
            means = [mean_interval(column) for column in method.per_image.T]
            parts.append(
                pd.DataFrame(
                    {
                        "method": method.name,
                        "band": np.arange(len(means)),
                        "value": [value for value, _ in means],
                        "value_low": [low for _, (low, _) in means],
                        "value_high": [high for _, (_, high) in means],
                        "share": shares,
                        "share_low": intervals[:, 0],
                        "share_high": intervals[:, 1],
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def evidence(self, method: BandMethod) -> Evidence:
        """Return a method's mean attributions, and which intervals exclude 0."""
        errors = [np.nan] * self.protocol.n_bands
        if self.n_images > 1:
            errors = method.per_image.std(axis=0, ddof=1) / np.sqrt(self.n_images)
        return Evidence.of(method.per_image.mean(axis=0), errors)

    def pairs(self) -> pd.DataFrame:
        """Return one row a pair of methods: each statistic with its 95 % interval over images.

        `rank_correlation`, `sign_agreement` and `profile_distance` are of the mean profiles, with
        bootstrap intervals; with the prefix `image_` they are means over images of the statistic
        of one image, with normal intervals. Only ranks are compared with a method whose values
        have no sign.
        """
        return self._pairs(combinations(range(len(self.methods)), 2))

    def _pairs(self, pairs: Iterable[tuple[int, int]]) -> pd.DataFrame:
        import pandas as pd

        rows = []
        for i, j in pairs:
            first, second = self.methods[i], self.methods[j]
            row: dict[str, Any] = {
                "first": first.name,
                "second": second.name,
                "n_images": self.n_images,
            }
            for name in STATISTICS:
                known = name == "rank_correlation" or (first.signed and second.signed)
                row |= self._pair(name, i, j) if known else _unknown(name)
            rows.append(row)
        return pd.DataFrame(rows, columns=None if rows else ["first", "second", "n_images"])

    def _pair(self, name: str, i: int, j: int) -> dict[str, float]:
        """Compare two methods by one statistic, on mean profiles and image by image."""
        statistic = STATISTICS[name]
        first, second = (self.methods[k].per_image for k in (i, j))
        low, high = percentile_interval(statistic(self._drawn[:, i], self._drawn[:, j]))
        return {
            name: float(statistic(first.mean(axis=0), second.mean(axis=0))),
            f"{name}_low": float(low),
            f"{name}_high": float(high),
            **_centre(f"image_{name}", statistic(first, second)),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row a method: agreement with the first one, metrics, and cost of an image.

        Columns of `pairs` with the first method (NaN for itself); `residual`, the absolute
        completeness residual in nats (NaN for methods that promise none), `infidelity` and
        `sensitivity`: medians over images, whose tails are heavy, with 95 % intervals (`_low`,
        `_high`) and the number of images (`_n`); forward and backward passes and seconds of one
        image.
        """
        import pandas as pd

        against = self._pairs((0, j) for j in range(1, len(self.methods))).set_index("second")
        rows = []
        for method in self.methods:
            row: dict[str, Any] = {"method": method.name, "title": method.title}
            if method.name in against.index:
                found = against.loc[method.name].drop(["first", "n_images"])
                row |= {str(column): value for column, value in found.items()}
            residual = np.abs(method.residual) if method.complete else np.array([np.nan])
            row |= _centre("residual", residual, median_interval)
            row |= _centre("infidelity", method.infidelity, median_interval)
            row |= _centre("sensitivity", method.sensitivity, median_interval)
            row["forward_passes"] = method.rows.mean()
            row["backward_passes"] = method.gradient_rows.mean()
            row["seconds"] = method.seconds.mean()
            rows.append(row)
        return pd.DataFrame(rows)

    def to_markdown(self) -> str:
        """Return the table of `to_frame` for people, in Markdown."""
        from iaside_plugins.attributions.text import agreement_markdown

        return agreement_markdown(self)

    def plot(self) -> Figure:
        """Plot normalised profiles with intervals, a row a method (needs matplotlib)."""
        from iaside_plugins.attributions.plots import plot_agreement

        return plot_agreement({self._model_name: self})

    @property
    def _model_name(self) -> str:
        """Name of the model; empty where it is not known."""
        return str(dict(self.info.get("model") or {}).get("name", ""))

    def __repr__(self) -> str:
        return (
            f"AgreementReport({', '.join(self.names)}; {self.n_images} images, "
            f"{self.protocol.n_bands} bands)"
        )

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.to_frame())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values: the tables, and the values of every image."""
        return {
            "format": FORMAT,
            "protocol": self.protocol.to_dict(),
            "image_size": list(self.image_size),
            "n_images": self.n_images,
            "ids": list(self.ids),
            **jsonable(dict(self.info)),
            "agreement": jsonable(self.to_frame().to_dict("records")),
            "pairs": jsonable(self.pairs().to_dict("records")),
            "profiles": jsonable(self.profiles().to_dict("records")),
            "methods": [jsonable(vars(method)) for method in self.methods],
        }

    def save(self, path: Path | str) -> None:
        """Write `to_dict` to a JSON file, whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        write_json(Path(path), self.to_dict(), indent=None)  # many numbers, few names

    @classmethod
    def load(cls, path: Path | str) -> AgreementReport:
        """Load the report that `save` wrote; its tables are computed again from its numbers.

        Raises:
            InputError: If the file is not a saved report, or of a later version.
        """
        try:
            data = read_json(Path(path))
            if data["format"] != FORMAT:
                raise InputError(f"{path} was written by another version of iaside-plugins")
            methods = tuple(_method(one) for one in data["methods"])
            report = cls(
                methods=methods,
                protocol=Protocol.from_dict(data["protocol"]),
                image_size=(int(data["image_size"][0]), int(data["image_size"][1])),
                ids=tuple(map(str, data["ids"])),
                info={key: data[key] for key in ("model", "settings", "provenance")},
            )
            shape = (report.n_images, report.protocol.n_bands)
            sound = all(
                method.per_image.shape == shape
                and all(getattr(method, name).shape == shape[:1] for name in MEASURES)
                for method in methods
            )
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(f"{path} is not a saved agreement report: {error}") from error
        if not (methods and sound and isinstance(report.info["model"], dict)):
            raise InputError(f"{path} is not a saved agreement report: its numbers do not fit")
        return report


def _method(data: Mapping[str, Any]) -> BandMethod:
    """Return a method from JSON values; a null is a number that was not measured."""
    numbers = {name: np.array(data[name], dtype=np.float64) for name in ("per_image", *MEASURES)}
    return BandMethod(
        name=str(data["name"]),
        title=str(data["title"]),
        complete=bool(data["complete"]),
        signed=bool(data["signed"]),
        **numbers,
    )


def _unknown(name: str) -> dict[str, float]:
    ends = ("", "_low", "_high")
    nothing = {f"{prefix}{name}{end}": np.nan for prefix in ("", "image_") for end in ends}
    return nothing | {f"image_{name}_n": 0}


def _centre(
    name: str,
    values: Array,
    interval: Callable[[Array], tuple[float, tuple[float, float]]] = mean_interval,
) -> dict[str, float]:
    """Return mean or median of the values that are not NaN, its interval, and their number."""
    known = values[~np.isnan(values)]
    centre, (low, high) = interval(known) if len(known) else (np.nan, (np.nan, np.nan))
    return {name: centre, f"{name}_low": low, f"{name}_high": high, f"{name}_n": len(known)}


def load_reports(paths: Iterable[Path | str], protocol: Protocol) -> list[AgreementReport]:
    """Load saved reports that have the same bands as a protocol.

    Raises:
        InputError: As `AgreementReport.load`, or for other bands.
    """
    reports = []
    for path in paths:
        reports.append(AgreementReport.load(path))
        found = reports[-1].protocol
        if (found.n_bands, found.band_norm) != (protocol.n_bands, protocol.band_norm):
            raise InputError(
                f"{path} has {found.n_bands} {found.band_norm} bands, this comparison "
                f"{protocol.n_bands} {protocol.band_norm} ones"
            )
    return reports


def by_model(reports: Iterable[AgreementReport]) -> dict[str, AgreementReport]:
    """Return reports by the name of their model; a name that came before gets a number."""
    named: dict[str, AgreementReport] = {}
    for report in reports:
        name = str(report.info["model"].get("name", "model"))
        number = sum(other.split(" #")[0] == name for other in named) + 1
        named[name if number == 1 else f"{name} #{number}"] = report
    return named
