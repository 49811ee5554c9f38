"""Picture of a training: nats by epoch and band, signed score and accuracy below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iaside_plugins.display.plots import empty_figure, titled
from iaside_plugins.display.style import COLOURS, DIVERGING, FAINT, LABEL, SMALL
from iaside_plugins.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iaside_plugins.training.history import SpectralHistory


def plot_history(history: SpectralHistory, name: str = "") -> Figure:
    """Plot nats by recorded epoch (across) and band (up), and below signed score and accuracy.

    Records stand side by side, whatever lies between their epochs.

    Args:
        history: What was recorded.
        name: Name of the model, for the title.

    Raises:
        InputError: If nothing was recorded.
        MissingExtraError: If matplotlib is not installed.
    """
    if not history.importances:
        raise InputError("nothing was recorded yet: call record(model, epoch)")
    figure, axes_class = empty_figure(7.5, 6)
    frame = history.to_frame()
    protocol, edges = history.protocol, next(iter(history.importances.values())).band_edges()
    counts = "/".join(map(str, sorted(set(frame["n_images"]))))
    figure.suptitle(titled(name, counts, protocol.protocol_id))
    nats, score, accuracy = figure.subplots(
        3, 1, sharex=True, height_ratios=(3, 1.5, 1.5), subplot_kw={"axes_class": axes_class}
    )
    values = frame[[f"band_{i}" for i in range(protocol.n_bands)]].to_numpy().T
    most = float(np.abs(values).max())
    shown = nats.imshow(
        values, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto", origin="lower"
    )
    bar = figure.colorbar(shown, ax=[nats, score, accuracy], aspect=40)
    bar.set_label("Shapley value (nats)", fontsize=LABEL)
    bar.ax.tick_params(labelsize=SMALL)
    nats.set_yticks(range(protocol.n_bands))
    nats.set_ylabel(f"band (up to {edges[-1]:.3g} cycles/image)")
    places = np.arange(len(frame))
    score.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    score.fill_between(
        places,
        frame["signed_score_low"],
        frame["signed_score_high"],
        color=COLOURS[0],
        alpha=0.2,
        linewidth=0,
    )
    score.plot(places, frame["signed_score"], marker="o", markersize=3, color=COLOURS[0])
    score.set_ylabel("signed score")
    accuracy.plot(places, frame["clean_accuracy"], marker="s", markersize=3, color=COLOURS[1])
    accuracy.set_ylim(-0.03, 1.03)
    accuracy.set_ylabel("accuracy")
    step = -(-len(frame) // 12)
    accuracy.set_xticks(places[::step], frame["epoch"].astype(str)[::step])
    accuracy.set_xlabel("epoch")
    return figure
