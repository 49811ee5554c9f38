"""The page of label noise and training time comes from its JSON file, and says what was judged."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies import training

SEEDS = range(5)


@pytest.fixture(scope="module")
def data() -> list[dict]:
    return json.loads((training.FOLDER / "training.json").read_text(encoding="utf-8"))


def record(upper: float, accuracy: float, score: float, noise: float) -> dict:
    nats = [(1 - upper) / 4] * 4 + [upper / 4] * 4
    split = {name: {"bands": [0.0] * 7 + [noise]} for name in ("noise", "blur", "contrast")}
    return {
        "step": 11,
        "nats": nats,
        "signed_score": score,
        "test_accuracy": accuracy,
        "train_accuracy": accuracy,
        "split": split,
    }


def made(rise: float, per_share: float, check: float = 1.0) -> list[dict]:
    """Nets whose upper share grows by `rise` in time, and by `per_share` with the wrong labels.

    `check` times as much on images of the check.
    """
    rng, out = np.random.default_rng(0), []
    for images, k in ((training.MAIN, 1.0), (training.CHECK, check)):
        for share in (0.0, 0.2, 0.4, 0.6):
            for seed in SEEDS:
                e = 0.001 * rng.normal()
                begin = record(0.9, 0.4, 0.0, 0.0)  # not able yet: counts for nothing
                able = record(0.3 + e, 0.6, 0.0, 0.0)
                end = record(
                    0.3 + k * (rise + per_share * share), 0.9, -per_share * share, per_share * share
                )
                records = [begin, able, end]
                out.append({"images": images, "share": share, "seed": seed, "records": records})
    return out


def test_upper_share_is_absent_where_bands_hold_little():
    assert training.upper_share([0.1, 0.1, 0.1, 0.1, 0.3, 0.1, 0, 0]) == pytest.approx(0.5)
    assert np.isnan(training.upper_share([0.01] * 8))


def test_the_interval_is_students():
    found = training.Answer.of([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764 * np.sqrt(2.5) / np.sqrt(5)  # the table's quantile of 4 degrees of freedom
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert found.side == 1
    assert training.Answer.of([-1.0, 1.0, 0.5]).side == 0


def test_known_effects_are_found_with_their_size():
    found = training.answers(made(0.1, 0.2))
    assert found["low bands first"].mean == pytest.approx(0.1, abs=0.002)
    assert found["wrong labels, upper share"].mean == pytest.approx(0.2, abs=1e-9)
    assert found["wrong labels, noise"].mean == pytest.approx(0.2, abs=1e-9)
    said = training.verdicts(training.answers(made(0.1, 0.2)))
    assert set(said.values()) == {"yes"}
    said = training.verdicts(training.answers(made(-0.1, -0.2)))
    assert set(said.values()) == {"the contrary"}
    said = training.verdicts(training.answers(made(0.1, 0.2, check=-1.0)))
    assert said["low bands first"] == "yes, but not robust to the enlargement"
    assert said["evidence moves up"] == "yes, but not robust to the enlargement"


def test_half_of_the_second_answer_is_partly():
    found = training.answers(made(0.1, 0.2))
    flat = training.Answer(0.0, -1.0, 1.0, 0, 5)
    said = training.verdicts({**found, "wrong labels, signed score": flat})
    assert said["evidence moves up"] == "partly"
    nan = float("nan")
    none = training.Answer(nan, nan, nan, 1, 5)
    assert none.text("+.2f") == "none for 1 of 5 seeds"
    said = training.verdicts({**found, "wrong labels, upper share": none})
    assert said["evidence moves up"] == "not shown"
    against = training.Answer(1.0, 0.5, 1.5, 0, 5)
    said = training.verdicts({**found, "wrong labels, signed score": against})
    assert said["evidence moves up"] == "not shown"


def test_the_page_holds_the_tables_of_its_json(data):
    text = (training.FOLDER / "README.md").read_text(encoding="utf-8")
    assert training.page(text, data) == text
    other = copy.deepcopy(data)
    for run in other:
        run["records"][-1]["test_accuracy"] = 0.123
    assert "0.12 [0.12, 0.12]" in training.page(text, other)


def test_all_nets_are_there_and_their_splits_add_up(data):
    main = [run for run in data if run["images"] == training.MAIN]
    assert len(main) == 20
    assert len([run for run in data if run["images"] == training.CHECK]) == 10
    assert {len(run["records"]) for run in main} == {12}
    for run in main:
        for one in run["records"]:
            for split in one["split"].values():
                total = split["clean"] + sum(split["bands"])
                assert total == pytest.approx(split["perturbed"], abs=2e-4)  # 5 digits


def test_the_figure_is_drawn_from_the_json(data):
    pytest.importorskip("matplotlib", reason="needs the extra leaderboard")
    figure = training.training_figure(data)
    figure.draw_without_rendering()
    assert figure.axes[0].get_title() == "0 % wrong labels"
    assert len(figure.axes[1].containers) == 4


def test_other_files_are_refused():
    with pytest.raises(InputError, match=r"expected runs of training_study.py"):
        training.condense([{"images": "repeated"}])
