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


def test_agreement_is_a_row_a_method_and_a_colour_a_model():
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

    figure = plot_agreement({"a $b$": report(4, "xyzw"), "c": report(4, "xzw")})
    (ax,) = figure.axes
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(shown) == ["Method w", "Method z"], "the methods that both have, less the first"
    names = [title.removeprefix("Method ") for title in shown]
    both = [report(4, some).to_frame().set_index("method") for some in ("xyzw", "xzw")]
    values = np.array([frame.loc[names, "rank_correlation"] for frame in both])
    assert (np.diff(values.mean(axis=0)) <= 0).all(), "the closest at the top"
    dots = [line for line in ax.lines if line.get_marker() not in ("", "None")]
    np.testing.assert_allclose([dot.get_xdata() for dot in dots], values)
    assert len({(dot.get_color(), dot.get_marker()) for dot in dots}) == 2
    segments = ax.collections[0].get_segments()
    ends = both[0].loc[names, ["rank_correlation_low", "rank_correlation_high"]]
    np.testing.assert_allclose([one[:, 0] for one in segments], ends)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [r"a \$b\$, 20 images", "c, 20 images"]
    assert "as Method x does" in figure.get_suptitle()
    assert Protocol(4).protocol_id in figure.get_suptitle()
    report(4, "x").plot().draw_without_rendering()  # nothing to agree with
    with pytest.raises(InputError, match="one number of bands, c has another"):
        plot_agreement({"a": report(4, "x"), "c": report(5, "x")})


def test_plots_have_one_style():
    from matplotlib.colors import to_hex

    from iaside_plugins.display.plots import new_figure
    from iaside_plugins.display.style import COLOURS, TITLE

    figure, (ax,) = new_figure(2, 2)
    assert not ax.spines["top"].get_visible()
    assert to_hex(ax.plot([1, 2])[0].get_color()) == COLOURS[0]
    assert ax.set_title("a").get_fontsize() == figure.suptitle("b $c").get_fontsize() == TITLE
    figure.draw_without_rendering()  # a name is no formula
    ax.plot([2, 1], label="d")
    assert not ax.legend().get_frame_on()


DEUTAN = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
PROTAN = [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
XYZ = np.array([[0.434, 0.376, 0.190], [0.213, 0.715, 0.072], [0.018, 0.109, 0.873]])


@pytest.mark.parametrize("sight", [np.eye(3), DEUTAN, PROTAN], ids=["full", "deutan", "protan"])
def test_the_first_colours_are_told_apart_by_everyone_and_all_of_them_on_white(sight):
    """Distances in CIELAB as Machado et al. 2009 see it; contrast as WCAG 2 has it."""
    from matplotlib.colors import to_rgb

    from iaside_plugins.display.style import COLOURS, MARKS

    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ (linear @ np.transpose(sight)).clip(1e-3, 1).T)
    lab = np.stack([116 * y, 500 * (x - y), 200 * (y - z)], axis=1)[:4]
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    assert apart[np.triu_indices(4, 1)].min() > 10
    assert (1.05 / (linear @ XYZ[1] + 0.05)).min() >= 3
    assert len(set(MARKS)) == len(COLOURS), "what tells the others apart"
