"""Plots draw what the result says and leave matplotlib as it was."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import oracles
import pytest

from iaside_plugins import Protocol, spectral_importance


@pytest.fixture(scope="module")
def result():
    """Twelve images through a tiny network, four bands."""
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (12, 10)), Protocol(4))


@pytest.fixture(scope="module")
def sampled():
    """The same by the permutation estimator, without a value table."""
    protocol = Protocol(4, estimator="permutation")
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (12, 10)), protocol)


@pytest.fixture(scope="module")
def single():
    """One image: nothing has an interval."""
    return spectral_importance(oracles.TinyNet(), oracles.sample(1, (12, 10)), Protocol(4))


def test_plots_draw_on_given_axes_or_their_own(result, single, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    from iaside_plugins.display.plots import new_figure, plot_profiles, save_figure

    own = result.plot()
    assert isinstance(own, Axes)
    _, (left, right) = new_figure(8, 3, columns=2)
    assert result.plot(ax=right) is right
    assert not left.lines
    shown = right.containers[0].lines[0]
    np.testing.assert_allclose(shown.get_xdata(), [0.625, 1.875, 3.125, 4.375])  # band centres
    np.testing.assert_allclose(shown.get_ydata(), result.shapley_values)
    bars = right.containers[0].lines[2][0].get_segments()
    halves = [(bar[1, 1] - bar[0, 1]) / 2 for bar in bars]
    np.testing.assert_allclose(halves, 1.959964 * result.shapley_se, rtol=1e-5)
    assert "nats" in right.get_ylabel()
    assert "cycles/image" in right.get_xlabel()
    single.plot()  # no interval to draw
    figure = plot_profiles({"one": result, "other": single})
    save_figure(figure, tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG\r\n")
    save_figure(own.figure, tmp_path / "one.svg")
    assert "<svg" in (tmp_path / "one.svg").read_text()


def test_plotting_leaves_matplotlib_as_it_was(tmp_path):
    pytest.importorskip("matplotlib")
    code = (
        "import numpy as np, sys, matplotlib\n"
        "from iaside_plugins import Protocol, SpectralImportance\n"
        "from iaside_plugins.display.plots import save_figure\n"
        "before = matplotlib.rcParams.copy()\n"
        "psi = np.arange(8.0).reshape(2, 4)\n"
        "r = SpectralImportance(Protocol(4), psi, psi[:, :2], None, np.zeros(2, int), ('a', 'b'),\n"
        "    np.ones(2, bool), 2, 0, (8, 8), 'float32')\n"
        "save_figure(r.plot().figure, sys.argv[1])\n"
        "assert dict.__eq__(matplotlib.rcParams, before)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    path = tmp_path / "plot.png"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)
    assert path.stat().st_size > 1000


def test_agreement_is_a_row_a_method_and_a_column_a_model():
    from iaside_plugins.attributions.agreement import AgreementReport, BandMethod
    from iaside_plugins.attributions.plots import plot_agreement
    from iaside_plugins.errors import InputError

    def report(n_bands: int, names: str) -> AgreementReport:
        rng = np.random.default_rng(0)
        methods = []
        for name in names:
            costs = [np.ones(20)] * 6
            per_image = rng.normal(size=(20, n_bands))
            methods.append(BandMethod(name, f"Method {name}", True, True, per_image, *costs))
        ids = tuple(map(str, range(20)))
        return AgreementReport(tuple(methods), Protocol(n_bands), (32, 32), ids, {"model": {}})

    figure = plot_agreement({"a $b$": report(4, "xyz"), "c": report(4, "xz")})
    assert len(figure.axes) == 4, "the methods that both have"
    top = [ax.get_title() for ax in figure.axes[:2]]
    assert top == ["a $b$\n20 images", "c\n20 images"]
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["Method\nx", "Method\nz"]
    (note,) = [text.get_text() for text in figure.axes[2].texts]
    correlation = report(4, "xyz").to_frame().set_index("method").loc["z", "rank_correlation"]
    assert note.startswith(f"rank correlation {correlation:+.2f} [")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    first = report(4, "xyz").methods[0].per_image.mean(axis=0)
    told = report(4, "xyz").evidence(report(4, "xyz").methods[0])
    np.testing.assert_allclose(heights, first[told.told])
    assert len(report(4, "x").plot().axes) == 1
    with pytest.raises(InputError, match="one number of bands, c has another"):
        plot_agreement({"a": report(4, "x"), "c": report(5, "x")})
