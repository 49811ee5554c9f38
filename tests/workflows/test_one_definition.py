"""Where a model's evidence is: every door says and draws the same bands and the same nats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra leaderboard")

from iaside_plugins import Protocol, SpectralImportance
from iaside_plugins.attributions.agreement import AgreementReport, BandMethod
from iaside_plugins.attributions.text import agreement_text
from iaside_plugins.display.plots import new_figure
from iaside_plugins.display.report import spectral_report
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.render.latex import fragments
from iaside_plugins.leaderboard.render.model_page import model_pages
from iaside_plugins.leaderboard.render.page import to_html
from iaside_plugins.leaderboard.render.text import to_markdown
from iaside_plugins.leaderboard.table.formatting import BELOW, INCLUDES_ZERO
from iaside_plugins.spectra.plots import draw_evidence
from iaside_plugins.workflows.digits_demo import Trained, summary

EARLIER = Path(__file__).parents[1] / "earlier"  # entries that the board held once
NAME = "cifar10--c10_resnet20--m8-chebyshev-zero-exact-1254609b.json"
ABOVE, AGAINST, NEITHER = [4, 5, 6, 7], [2], [0, 1, 3]
SENTENCE = (
    "evidence in bands 4-7; evidence against the true class in band 2; "
    "interval includes 0 in bands 0-1, 3"
)


@pytest.fixture(scope="module")
def entry():
    text = (EARLIER / NAME).read_text()
    return parse_entry(text, NAME)


@pytest.fixture(scope="module")
def result(entry):
    """Two images with the entry's means and standard errors."""
    psi, error = map(np.array, (entry.spectral.shapley_values, entry.spectral.shapley_se))
    per_image = np.stack([psi + error, psi - error])
    ends = np.stack([np.full(2, -3.0), -3.0 + per_image.sum(axis=1)], axis=1)
    return SpectralImportance(
        protocol=Protocol(8, estimator="permutation"),
        per_image=per_image,
        ends=ends,
        values=None,
        labels=np.zeros(2, dtype=np.int64),
        ids=("a", "b"),
        correct=np.ones(2, dtype=bool),
        n_classes=10,
        n_forward=0,
        image_size=(32, 32),
        precision="float32",
    )


def cells(result):
    low, high = result.evidence.intervals.T
    return [
        f"{psi:+.3f} [{a:+.3f}, {b:+.3f}]"
        for psi, a, b in zip(result.shapley_values, low, high, strict=True)
    ]


def test_terminal(result):
    lines = spectral_report(result).splitlines()
    rows = lines[2:10]
    assert all(cell in row for cell, row in zip(cells(result), rows, strict=True))
    assert [band for band, row in enumerate(rows) if "|█" in row] == ABOVE
    assert [band for band, row in enumerate(rows) if "█|" in row] == AGAINST
    assert lines[10].strip() == SENTENCE


def test_board(entry, result):
    board = Board.of([entry])
    assert re.search(
        rf"\| {INCLUDES_ZERO}{INCLUDES_ZERO}{BELOW}{INCLUDES_ZERO}[▁-█]{{4}} \|", to_markdown(board)
    )
    latex = "".join(fragments(board).values())
    (own,) = model_pages(board).values()
    for cell in cells(result):
        assert f"<td>{cell}</td>" in own
        assert re.sub(r"(.*) \[(.*), (.*)\]", r"$\1_{\2}^{\3}$", cell) in latex
    page = to_html(board)
    for sign, bands in (("up", ABOVE), ("down", AGAINST)):
        (path,) = re.findall(rf'<path class={sign} d="([^"]*)"', page)
        assert [int(x) // 8 for x in re.findall(r"M(\d+) \d+V", path)] == bands
    (drawn,) = re.findall(r"& ((?:\\iasidebar\{[^}]*\}\{[^}]*\}){8}) ", latex)
    heights = [(float(d), float(h)) for d, h in re.findall(r"\{([^}]*)\}\{([^}]*)\}", drawn)]
    assert [band for band, (depth, _) in enumerate(heights) if depth < 0] == AGAINST
    assert [band for band, found in enumerate(heights) if found == (0, 0.3)] == NEITHER


def test_plots(result):
    ax = result.plot()
    hollow = next(line for line in ax.lines if line.get_markerfacecolor() == "white")
    np.testing.assert_allclose(hollow.get_ydata(), result.shapley_values[NEITHER])
    _, (ax,) = new_figure(3, 3)
    draw_evidence(ax, result.evidence)
    bands = sorted([*ABOVE, *AGAINST])
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, result.shapley_values[bands])


def test_compare(result):
    costs = [np.ones(2)] * 6
    method = BandMethod("iaside", "I-ASIDE", True, True, result.per_image, *costs)
    report = AgreementReport((method,), Protocol(8), (32, 32), ("a", "b"), {"model": {}})
    text = agreement_text(report)
    assert f"of I-ASIDE, {SENTENCE}" in text
    half = result.evidence.intervals[:, 1] - result.shapley_values
    for psi, width in zip(result.shapley_values, half, strict=True):
        assert f"{psi:+.3f} ± {width:.3f}" in text


def test_demo(entry, result):
    raw = json.loads(entry.model_dump_json())
    raw["adversarial"]["worst_case"][0]["epsilon"] = 0.1
    text = summary([Trained("standard", 0, raw, result)])
    assert f"standard: {SENTENCE}" in text
    assert f"bands 2-7 are worth {result.shapley_values[2:].sum():+.2f} [" in text
    assert "%" not in text.replace("95 % intervals", "")
