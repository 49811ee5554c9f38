"""The board's statistics as a whole: any number of entries, any order, and what is said of them."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from board_entries import Make, parsed
from scipy import stats

from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.settings import BoardSettings
from iaside_plugins.leaderboard.statistics.comparison import in_words, sentence, verdict
from iaside_plugins.leaderboard.statistics.estimates import Sample, correlation
from iaside_plugins.leaderboard.statistics.report import statistics, table_id, to_json
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.leaderboard.table.rows import KEYS

N = 12


@pytest.fixture(scope="module")
def entries(make_entry: Make) -> list[Entry]:
    """Twelve models of one table, three architectures trained in two ways."""
    return [made(make_entry, k) for k in range(N)]


def made(make: Make, k: int) -> Entry:
    raw = make(f"model{k}", k)
    raw["model"] |= {
        "architecture": ("ResNet-20", "VGG11", "dense121")[k % 3],
        "training": ("standard", "adversarial, L-inf 8/255")[k % 2],
    }
    return parsed(raw)[0]


@pytest.fixture(scope="module")
def table(entries: list[Entry]) -> dict[str, Any]:
    found: dict[str, Any] = statistics(entries)["tables"][0]
    return found


def one(table: dict[str, Any], predictor: str = "signed_score") -> dict[str, Any]:
    wanted = f"{predictor}--mean_corruption_error_unnormalised"
    return next(c for c in table["comparisons"] if c["id"] == wanted)


def estimates(part: Any) -> list[dict[str, Any]]:
    """Every estimate anywhere."""
    if isinstance(part, dict) and {"value", "interval", "family_interval"} <= set(part):
        return [part]
    items = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    return [found for item in items for found in estimates(item)]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_few_models_have_reasons_and_no_nan(make_entry: Make, n: int) -> None:
    found = statistics([made(make_entry, k) for k in range(n)])
    json.dumps(found, allow_nan=False)
    assert len(found["tables"]) == min(n, 1)
    for part in found["tables"]:
        assert part["status"] == ("too small" if n < 3 else "exploratory")
        assert {c["verdict"] for c in part["comparisons"]} == {"not testable"}
        everything = estimates(part)
        assert len(everything) > 100
        for estimate in everything:
            assert estimate["interval"] is None
            assert estimate["reason"]
        if n < 3:
            assert {estimate["value"] for estimate in everything} == {None}
            assert f"n = {n} models, needs 3" in {estimate["reason"] for estimate in everything}
        assert all("no correlation" in c["sentence"] for c in part["comparisons"]) == (n < 3)


def test_constant_columns_say_so(entries: list[Entry]) -> None:
    same = entries[0].clean_accuracy
    found = statistics([e.model_copy(update={"clean_accuracy": same}) for e in entries])
    comparison = one(found["tables"][0])
    reason = "one of the columns is the same for all models"
    assert comparison["clean"]["spearman"]["reason"] == reason
    assert comparison["partial_pearson"]["reason"] == reason
    assert comparison["spearman"]["value"] is not None
    assert comparison["verdict"] == "not testable"
    assert f"clean accuracy alone: none ({reason})" in comparison["sentence"]


def test_point_estimates_are_scipys(entries: list[Entry], table: dict[str, Any]) -> None:
    signed = [e.spectral.signed_score for e in entries]
    clean = [e.clean_accuracy.value for e in entries]
    error = [e.corruption.unnormalised_mean_error.value for e in entries if e.corruption]
    found = one(table)
    kinds = {"spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": stats.pearsonr}
    for name, kind in kinds.items():
        for part, a, b in [
            (found, signed, error),
            (found["clean"], clean, error),
            (found["score_and_clean"], signed, clean),
        ]:
            assert part[name]["value"] == pytest.approx(kind(a, b).statistic, abs=2e-6)
    ranks = [stats.rankdata(v) for v in (signed, error, clean)]
    rest = [v - np.polyval(np.polyfit(ranks[2], v, 1), ranks[2]) for v in ranks[:2]]
    expected = stats.pearsonr(*rest).statistic
    assert found["partial_spearman"]["value"] == pytest.approx(expected, abs=2e-6)
    assert found["spearman"]["p"] == pytest.approx(stats.spearmanr(signed, error).pvalue, abs=0.03)
    more = abs(found["spearman"]["value"]) - abs(found["clean"]["spearman"]["value"])
    assert found["added"]["spearman"]["value"] == pytest.approx(more, abs=2e-6)


def test_intervals_hold_their_values(table: dict[str, Any]) -> None:
    found = [e for e in estimates(table) if e["interval"] is not None]
    assert len(found) > 50
    for estimate in found:
        low, high = estimate["interval"]
        assert -1 <= low <= high <= 1
        assert low - 0.2 <= estimate["value"] <= high + 0.2


def test_interval_is_the_bootstraps(entries: list[Entry], table: dict[str, Any]) -> None:
    signed = np.array([e.spectral.signed_score for e in entries])
    error = np.array([e.corruption.unnormalised_mean_error.value for e in entries if e.corruption])
    independent = stats.bootstrap(
        (signed, error),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert one(table)["spearman"]["interval"] == pytest.approx(list(independent), abs=0.12)


def test_corrections_are_for_all_comparisons(table: dict[str, Any]) -> None:
    assert len(table["comparisons"]) == 2 * len(table["outcomes"])
    known = [c for c in table["comparisons"] if c["partial_p"] is not None]
    assert len(known) < len(table["comparisons"])  # the mCE is the same for all
    assert {c["n_comparisons"] for c in table["comparisons"]} == {len(known) // 2}
    for score in ("signed_score", "score"):  # the outcomes of one score stand in one table
        own = [c for c in known if c["predictor"] == score]
        least = min(own, key=lambda c: c["partial_p"])
        corrected = least["partial_p_holm"]
        assert corrected == pytest.approx(min(1, len(own) * least["partial_p"]), abs=2e-5)
        for name in ("spearman", "partial_spearman", "partial_pearson"):
            least = min((c[name] for c in own), key=lambda part: part["p"])
            n = least["n_corrected"]
            assert least["p_holm"] == pytest.approx(min(1, n * least["p"]), abs=2e-5)
    for part in table["per_corruption"]:
        rows = part["corruptions"]
        assert len(rows) == 15
        least_p = min(row["spearman"]["p"] for row in rows)
        assert min(row["spearman"]["p_holm"] for row in rows) == pytest.approx(
            min(1, 15 * least_p), abs=2e-5
        )


def test_families_and_what_leaving_one_out_does(
    entries: list[Entry], table: dict[str, Any]
) -> None:
    assert {f["family"]: len(f["models"]) for f in table["families"]} == {
        f"{net}, {way}": 2
        for net in ("resnet", "vgg", "dense")
        for way in ("standard", "adversarial")
    }
    found = one(table)
    assert (found["n_models"], found["n_families"]) == (N, 6)
    assert [row["n_models"] for row in found["left_out"]] == [10] * 6
    row = found["left_out"][0]
    kept = [e for e in entries if e.model.name not in ("model5", "model11")]
    assert row["family"] == "dense, adversarial"
    signed = [e.spectral.signed_score for e in kept]
    error = [e.corruption.unnormalised_mean_error.value for e in kept if e.corruption]
    assert row["spearman"] == pytest.approx(stats.spearmanr(signed, error).statistic, abs=2e-6)
    r2 = found["added"]["r2"]
    assert r2["gain"] == pytest.approx(r2["clean_and_score"] - r2["clean"], abs=2e-6)


def test_order_of_entries_does_not_matter(entries: list[Entry]) -> None:
    assert to_json(statistics(entries)) == to_json(statistics(entries[::-1]))


def test_tables_are_those_of_the_board(entries: list[Entry]) -> None:
    found = statistics(entries)["tables"][0]
    part = tables(entries)[0]
    assert found["id"] == table_id(part)
    assert set(found["keys"]) == set(KEYS)
    assert [m["entry_id"] for m in found["models"]] == [e.entry_id for e in part.entries]
    assert found["keys"]["corruption_size"] == 224
    assert found["keys"]["benchmark"] is None


def test_text_is_json_with_numbers_on_one_line(table: dict[str, Any]) -> None:
    raw = {"a": [0.5, -1e-06], "b": [], "c": ["x [\\n 1, 2]", {"d": [1]}], "e": None}
    assert json.loads(to_json(raw)) == raw
    assert '"a": [0.5, -1e-06]' in to_json(raw)
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})


def test_sentence_comes_from_the_numbers(table: dict[str, Any]) -> None:
    found = one(table)
    text = found["sentence"]
    assert text.startswith(
        "Signed score against mean corruption error (unnormalised), n = 12 models in 6 families: "
    )
    for part in (found["spearman"], found["clean"]["spearman"], found["partial_spearman"]):
        assert f"{part['value']:+.2f} (95 % CI over models [{part['interval'][0]:+.2f}, " in text
        assert f"over families [{part['family_interval'][0]:+.2f}, " in text
        assert f"permutation p = {part['p']:.2g}, {part['p_holm']:.2g} after Holm's" in text
    assert "clean accuracy alone: " in text
    assert "the score given clean accuracy: " in text
    assert "Exploratory" not in text
    words = found["in_words"]
    assert words.startswith("With 12 models in 6 families we cannot tell whether the signed score")
    assert words.endswith("clean accuracy does: tested, not shown. Exploratory: n below 30.")
    changed = json.loads(json.dumps(found))
    changed |= {"n_models": 77, "status": "sufficient", "verdict": "shown"}
    changed["spearman"]["value"] = -0.99
    changed["clean"]["spearman"]["value"] = 0.11
    changed["partial_spearman"] |= {
        "interval": [-0.44, -0.33],
        "p_holm": 0.012,
        "n_corrected": 7,
    }
    new = sentence(changed)
    for part in (
        "n = 77 models",
        "Spearman -0.99",
        "alone: +0.11",
        "[-0.44, -0.33]",
        "0.012 after Holm's correction for 7 outcomes",
        "Verdict: shown.",
    ):
        assert part in new
        assert part not in text
    words = in_words(changed)
    assert words.startswith("With 77 models in 6 families the signed score says more of mean ")
    assert words.endswith("than clean accuracy does: shown.")
    numbers = [m for m in re.findall(r"-?\d+\.\d+", text) if m not in ("0.5",)]
    assert len(numbers) >= 15


def claim(**changes: Any) -> dict[str, Any]:
    part = {"value": 0.6, "interval": [0.3, 0.8], "family_interval": [0.2, 0.9], "p": 0.001}
    found: dict[str, Any] = {
        "n_models": 30,
        "n_families": 12,
        "clean": {"spearman": {"value": -0.9}},
        "partial_spearman": dict(part),
        "partial_pearson": dict(part),
        "partial_p_holm": 0.01,
    }
    for key, value in changes.items():
        where, _, name = key.rpartition("__")
        (found[where] if where else found)[name] = value
    return found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "shown"),
        ({"partial_p_holm": 0.06}, "tested, not shown"),
        ({"partial_pearson__family_interval": [-0.01, 0.9]}, "tested, not shown"),
        ({"partial_spearman__family_interval": [-0.01, 0.9]}, "tested, not shown"),
        ({"partial_pearson__value": -0.6}, "tested, not shown"),
        ({"clean": {"spearman": {"value": -1.0}}}, "not testable"),
        ({"partial_p_holm": None}, "not testable"),
        ({"n_families": 4}, "not testable"),
        ({"partial_spearman__family_interval": None}, "not testable"),
    ],
)
def test_verdict_needs_every_condition(changes: dict[str, Any], expected: str) -> None:
    assert verdict(claim(**changes)) == expected


def test_the_boards_own_file_is_current_and_its_sentences_follow_from_it() -> None:
    settings = BoardSettings.read(BOARD)
    found = Board.of(load_entries(BOARD / "entries"), settings=settings).statistics
    assert (BOARD / "stats.json").read_text() == to_json(found)
    for part in found["tables"]:
        assert (part["status"] == "sufficient") == (part["n_models"] >= 30)
        for comparison in part["comparisons"]:
            assert comparison["sentence"] == sentence(comparison)
            assert f"n = {comparison['n_models']} model" in comparison["sentence"]


def test_eight_models_in_perfect_order_have_an_exact_p_and_no_interval() -> None:
    x = np.arange(8.0)
    models = Sample(tuple("abcdefgh"))
    for name in ("spearman", "kendall", "pearson"):
        found = correlation(name, x, x if name == "pearson" else np.exp(x), models)
        assert found["value"] == pytest.approx(1)
        assert found["interval"] is None
        assert found["family_interval"] is None
        assert "the same value in every resample" in found["reason"]
        assert found["p"] == pytest.approx(2 / 40320)  # the order and its reverse
    other = np.array([3.0, 1, 4, 0, 5, 9, 2, 6])
    expected = stats.permutation_test(
        (x,),
        lambda a: stats.spearmanr(a, other).statistic,
        permutation_type="pairings",
        n_resamples=500,
        rng=np.random.default_rng(0),
    ).pvalue
    found = correlation("spearman", x, other, models)
    assert found["p"] == pytest.approx(expected, abs=0.05)
    assert found["interval"][1] - found["interval"][0] > 0.1
