"""Plot of how attribution methods agree (matplotlib, extra `leaderboard`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.display.plots import draw_dots, new_figure
from iaside_plugins.display.style import COLOURS, FAINT, MARKS
from iaside_plugins.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = [f"rank_correlation{end}" for end in ("", "_low", "_high")]


def plot_agreement(reports: Mapping[str, AgreementReport]) -> Figure:
    """Plot how far each method ranks the bands as the first one does: a row a method.

    Rank correlations of mean attributions with 95 % intervals over images, the closest method at
    the top, a colour and mark a model.

    Args:
        reports: Reports by the name of the model; the methods that all of them have are shown.

    Raises:
        InputError: If the reports have different numbers of bands.
        MissingExtraError: If matplotlib is not installed.
    """
    first = next(iter(reports.values()))
    n_bands = first.protocol.n_bands
    for name, report in reports.items():
        if report.protocol.n_bands != n_bands:
            raise InputError(f"expected reports of one number of bands, {name} has another")
    shared = [
        method
        for method in first.methods[1:]
        if all(method.name in report.names for report in reports.values())
    ]
    names = [method.name for method in shared]
    found = np.array([_correlations(report, names) for report in reports.values()])
    values = found[:, :, 0]
    order = np.argsort(-np.nan_to_num(values).mean(axis=0), kind="stable")
    figure, (ax,) = new_figure(7.5, 2.1 + 0.2 * len(names) * (1 + len(reports) / 3))
    for k, (name, report) in enumerate(reports.items()):
        draw_dots(
            ax,
            values[k][order],
            found[k, order, 1:],
            shift=(k - (len(reports) - 1) / 2) * 0.6 / len(reports),
            color=COLOURS[k % len(COLOURS)],
            mark=MARKS[k % len(MARKS)],
            label=f"{name}, {report.n_images} images".replace("$", r"\$").lstrip(", "),
        )
    protocols = dict.fromkeys(report.protocol.protocol_id for report in reports.values())
    title = f"Which method ranks the bands as {first.methods[0].title} does?"
    figure.suptitle("\n".join([title, f"{n_bands} bands, {', '.join(protocols)}"]))
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(names)), [shared[k].title for k in order])
    ax.invert_yaxis()
    ax.set_xlim(-1.05, 1.05)
    ax.set_xlabel(
        "rank correlation of mean attributions with its own\n"
        "(+1: the same order of bands, -1: the reverse), 95 % intervals over images"
    )
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=min(3, len(reports)))
    return figure


def _correlations(report: AgreementReport, names: list[str]) -> npt.NDArray[np.float64]:
    """Return the rank correlations (n, 3) of methods with the first one, with their intervals."""
    frame = report.to_frame().set_index("method")
    return frame.reindex(index=names, columns=COLUMNS).to_numpy(dtype=np.float64)
