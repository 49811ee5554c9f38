"""What is said of systematic noise: a cost only where the interval of the worst supports it."""

from __future__ import annotations

import numpy as np
import pytest

from iaside_plugins.display.systematic import systematic_lines, systematic_sentence
from iaside_plugins.entry.build import mean, paired_error, proportion

NAMES = ("pillow nearest", "pillow box", "opencv bilinear")
N = 100


def group(lost, gained=0, left_out=(), names=NAMES, changed=None):
    """The worst reading, the last one, loses and gains images; the others change one answer."""
    own = np.arange(N) < 80
    cells = []
    for name in names:
        after = own.copy()
        if name == names[-1]:
            after[:lost] = False
            after[N - gained :] = True
        moved = np.abs(after.astype(float) - own) if changed is None else np.full(N, changed)
        cells.append(
            {
                "condition": name,
                "error": proportion(~after),
                **paired_error(own, after),
                "probability_change": mean(moved),
                "changed": proportion(after != own),
            }
        )
    errors = [cell["error"]["value"] for cell in cells]
    added = float(np.mean(errors)) - 0.2
    return {
        "own": "pillow bilinear",
        "n_images": N,
        "own_accuracy": proportion(own),
        "conditions": cells,
        "mean_error": mean(np.full(N, np.mean(errors))),
        "mean_added": {"value": added, "interval": [added - 0.01, added + 0.01], "n": N},
        "worst": names[int(np.argmax(errors))],
        "left_out": list(left_out),
    }


def test_a_cost_is_said_where_the_worst_of_all_readings_is_shown_to_cost():
    said = systematic_sentence(group(lost=9))
    start = "Reading the same files with OpenCV (bilinear resize) costs this model 9.0 ["
    assert said.startswith(start)
    assert said.endswith("] points, the worst of 3 readings.")
    low = float(said.split("[")[1].split(",")[0])
    assert 0 < low < 9 - 5.7  # wider than the interval of one reading: 1.96 * 2.9


@pytest.mark.parametrize(("lost", "gained"), [(4, 0), (9, 6), (0, 3)])
def test_no_cost_is_said_without_its_interval(lost, gained):
    said = systematic_sentence(group(lost, gained))
    assert said.startswith("No other reading of the same files is shown to cost this model")
    assert f": {max(lost - gained, 0):+.1f} [" in said  # the others add nothing
    assert "errs less" not in said


def test_a_model_that_errs_less_under_another_reading_is_told():
    said = systematic_sentence(group(0, 15, names=("pillow box", "opencv nearest")[::-1]))
    assert said.startswith("No other reading of the same files is shown to cost")
    assert "; with Pillow (box resize) it errs less than with its own reading, by 15.0 [" in said
    low = float(said.split("by 15.0 [")[1].split(",")[0])
    assert 0 < low < 15 - 1.96 * 3.6  # wider than the interval of one reading


def test_one_reading_alone_has_the_plain_interval():
    # 5 of 100: shown for one reading, not for the worst of three.
    assert systematic_sentence(group(lost=5, names=("opencv decoder",))).startswith(
        "Reading the same files with OpenCV's decoder costs this model 5.0 ["
    )
    assert systematic_sentence(group(lost=5)).startswith("No other reading")


def test_nothing_changes():
    said = systematic_sentence(group(lost=0))
    assert said.startswith("Other readings of the same files change nothing here")
    # A probability that moves is a change, though no answer does.
    assert "change nothing" not in systematic_sentence(group(lost=0, changed=1e-6))


def test_lines_hold_every_reading_and_what_is_left_out():
    lines = systematic_lines(group(lost=9, left_out=["opencv decoder (no JPEG)"]), width=80)
    text = "\n".join(lines)
    assert lines[0].endswith("the same files read otherwise (100 images)")
    assert [" ".join(line.split()[:2]) for line in lines[3:7]] == ["pillow bilinear", *NAMES]
    row = "opencv bilinear 71.0% [61.5%, 79.0%] +9.0 [+3.2, +14.8] 0.090 9.0%"
    assert " ".join(lines[6].split()) == row
    assert lines[7].split()[:4] == ["mean", "of", "3", "77.0%"]
    assert "no answer and no probability changes: pillow nearest, pillow box" in text
    assert "left out: opencv decoder (no JPEG)" in text
    said = " ".join(line.strip() for line in lines)
    assert said.endswith(systematic_sentence(group(lost=9)))
    for width in (50, 80):
        narrow = systematic_lines(group(lost=9), width=width)[3:]  # `fitted` wraps the head
        table = narrow[: next(k for k, line in enumerate(narrow) if "no answer" in line)]
        assert max(map(len, table)) <= width
        assert any("9.0%" in line for line in table)


def test_the_mean_of_accuracies_stays_below_100_percent():
    few = group(lost=0)
    few["mean_error"] = {"value": 0.05, "interval": [-0.03, 0.13], "n": N}
    assert "95.0% [87.0%, 100.0%]" in "\n".join(systematic_lines(few))
