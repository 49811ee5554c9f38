"""Every semantic check: flip one field of a valid entry, and the error names the place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_entries import Make, parsed

from iaside_plugins.entry.build import proportion
from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.per_image import pack_bits, unpack_bits
from iaside_plugins.entry.read import clashes, load_entries
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol

Change = Callable[[Any], Any]


def change(raw: dict[str, Any], path: str, new: Any) -> None:
    """Set the value at a JSON pointer; a function gets the old value."""
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")[1:]]
    place: Any = raw
    for part in parents:
        place = place[part]
    place[last] = new(place[last]) if callable(new) else new


def problems(raw: dict[str, Any], stem: str | None = None) -> list[str]:
    entry = parse_entry(json.dumps(raw), "x.json")
    return check_entry(entry, stem or entry.entry_id)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"missing": ("frost",)},
        {"perturbed": False},
        {"n": 1},
        {"protocol": Protocol(n_bands=6, estimator="permutation")},
        {"protocol": Protocol(n_bands=3, beta=0.5, band_norm="euclidean")},
        {"protocol": Protocol.reference(4)},
        {"name": '<b>|_&"=1+1'},
    ],
    ids=["all", "missing", "clean", "one-image", "permutation", "beta", "script", "hostile"],
)
def test_valid_entries_have_no_problem(make_entry: Make, options: dict[str, Any]) -> None:
    if options.get("n") == 1:
        options = options | {"perturbed": False}
    assert problems(make_entry(**options)) == []


def test_a_split_of_errors_cannot_hide_behind_another_level(make_entry: Make) -> None:
    raw = make_entry(explained=True)
    assert problems(raw) == []
    for condition in raw["decomposition"]["conditions"]:
        if condition["condition"] == "gaussian_noise":
            condition["level"] += 0.5
    raw["decomposition"]["efficiency_residual"] = 0.7
    found = problems(raw)
    assert len([one for one in found if "expected a severity of gaussian_noise" in one]) == 5
    assert any("efficiency_residual: expected 0 but for rounding, got 0.7" in one for one in found)


def test_what_attacks_saw_belongs_to_an_entry(make_entry: Make) -> None:
    raw = make_entry()
    raw["adversarial"]["masking"] = masked(
        temperature=HEATED
    )  # and without it, above: an older entry
    assert problems(raw) == []
    raw["adversarial"]["masking"]["weaker"][0]["n_missed"] = 17
    assert problems(raw) == [
        "/adversarial/masking/weaker/0/n_missed: expected from 1 to 16 images, got 17"
    ]


def more(by: float) -> Change:
    return lambda old: old + by


def without_last(old: list[Any]) -> list[Any]:
    return old[:-1]


PAIR = {"attack": "fgsm", "other": "pgd", "norm": "Linf", "epsilon": 8 / 255, "difference": 0.0}


HEATED = {
    "attack": "pgd",
    "norm": "Linf",
    "n_images": 15,
    "temperatures": [0.1, 1.0],
    "cases": [
        {"epsilon": 1 / 255, "n_robust": 3, "n_left": 3},
        {"epsilon": 8 / 255, "n_robust": 9, "n_left": 1},
    ],
}


def masked(**changes: Any) -> dict[str, Any]:
    """What attacks saw of the sample entry, whose PGD is weaker than FGSM at 8/255."""
    weaker = {"attack": "pgd", "single": "fgsm", "norm": "Linf", "epsilon": 8 / 255, "n_missed": 1}
    counts = {"n_images": 16, "n_zero": 3, "n_non_finite": 0, "n_varying": 0}
    return {**counts, "weaker": [weaker], **changes}


def heated(**changes: Any) -> dict[str, Any]:
    return masked(temperature=HEATED | changes)


# Each step is ten times the tolerance of its check or more, and below what types and ranges refuse.
FLIPPED: list[tuple[str, Any, str]] = [
    ("/protocol/beta", 0.8, "/protocol: protocol_id 'm4-.*' does not belong"),
    ("/protocol/absence", "grey", "/protocol: absence must be one of"),
    ("/spectral/value_table/3", more(-1e-4), "/spectral/shapley_values/0: expected"),
    ("/spectral/value_table/15", more(-1e-4), "/spectral/ends/1: expected"),
    ("/spectral/ends/0", more(-1e-5), "/spectral/ends/0: expected -.*, got -"),
    ("/spectral/shapley_values/2", more(1e-5), "/spectral/shapley_values/2: expected"),
    ("/spectral/distribution/0", more(-1e-5), "/spectral/distribution/0: expected"),
    ("/spectral/score", more(1e-5), "/spectral/score: expected"),
    ("/spectral/signed_score", lambda x: -x, "/spectral/signed_score: expected"),
    ("/spectral/efficiency_residual", 1e-4, "/spectral/efficiency_residual: expected 0, got"),
    ("/spectral/value_table", None, r"/spectral/value_table: expected 2\*\*4 numbers"),
    ("/spectral/band_edges/4", 17.0, "/spectral/band_edges/4: expected 16, got 17"),
    ("/spectral/image_size", [64, 64], "/spectral/band_edges/1: expected 8, got 4"),
    ("/spectral/tied_bands", [1], r"/spectral/tied_bands: .*the least \(3\) first, got \[1\]"),
    ("/spectral/tied_bands", [3, 2, 2], "/spectral/tied_bands: expected different bands"),
    ("/spectral/score_interval", [0.3, 0.4], "/spectral/score_interval: expected an interval"),
    ("/spectral/signed_score_interval", [0.2, None], "/spectral/signed_score_interval: .*two"),
    ("/spectral/distribution_interval/1", [0.0, 0.1], "/spectral/distribution_interval/1: exp"),
    ("/spectral/shapley_se/1", None, "/spectral/shapley_se: expected numbers for 20 images"),
    ("/spectral/score_bias", None, "/spectral/score_bias: expected numbers for 20 images"),
    ("/spectral/n_images", 21, "/spectral/n_images: expected at most 20, got 21"),
    ("/spectral/n_images", 19, "/spectral/clean_accuracy/n: expected 19 images, got 20"),
    ("/clean_accuracy/value", 0.91, "/clean_accuracy/value: expected a multiple of 1/20, got 0.91"),
    ("/clean_accuracy/interval/0", more(-1e-5), "/clean_accuracy/interval/0: expected"),
    ("/data/n_images", 30, "/clean_accuracy/n: expected 30 images, got 20"),
    ("/data/n_available", 10, "/data/n_images: expected at most 10, got 20"),
    ("/corruption/conditions/0/corruption", "speckle_noise", "/corruption/conditions/0/corruption"),
    ("/corruption/conditions/0/severity", 2, r"/corruption/conditions/1: .*\('.*', 2\) again"),
    ("/corruption/conditions", without_last, "/corruption/conditions: .*lacking \\[5\\]"),
    ("/corruption/missing", ["fog"], r"/corruption/missing: expected \[\], got \['fog'\]"),
    ("/corruption/missing", ["frost", "fog"], "/corruption/mce: expected null"),
    ("/corruption/unnormalised_mean_error/value", more(1e-8), "/corruption/unnormalised_mean_er"),
    ("/corruption/unnormalised_mean_error/n_corruptions", 14, "/corruption/.*: expected 15, got"),
    ("/corruption/unnormalised_mean_error/n", 19, "/corruption/.*/n: expected 20 images, got 19"),
    ("/corruption/mce/value", more(1e-5), "/corruption/mce/value"),
    ("/corruption/mce/reference_errors/fog/0", more(0.01), "/corruption/mce/value"),
    ("/corruption/constants", "32", "/corruption/error_over_published: published"),
    ("/corruption/error_over_published/value", more(1e-5), "/corruption/error_over_published/v"),
    ("/corruption/error_over_published/reference", "me", "/corruption/error_over_published/refer"),
    ("/corruption/n_images", 25, "/corruption/uncorrupted_accuracy/n: expected at least 25"),
    ("/corruption/conditions/3/probability_change/interval", [0, 0.1], "/corruption/conditions/3/"),
    ("/corruption/conditions/3/probability_change/n", 4, "/corruption/conditions/3/probability_c"),
    ("/adversarial/n_images", 50, "/adversarial/attacks/0/accuracy/n: expected 50 images, got 20"),
    ("/adversarial/attacks/1/name", "fgsm", "/adversarial/worst_case/0/attacks: expected all of"),
    ("/adversarial/masking", masked(n_zero=17), "/adversarial/masking/n_zero: expected at most"),
    ("/adversarial/masking", masked(n_images=21), "/adversarial/masking/n_images: expected at"),
    ("/adversarial/masking", masked(n_images=1), "/adversarial/masking/n_images: expected at"),
    ("/adversarial/masking", masked(weaker=[]), "/adversarial/masking/weaker: expected"),
    (
        "/adversarial/masking",
        masked(temperature=HEATED | {"n_images": 5}),
        "/adversarial/.*/cases/1: ",
    ),
    (
        "/adversarial/masking",
        masked(temperature=HEATED | {"n_images": 21}),
        "/adversarial/.*at most 20",
    ),
    (
        "/adversarial/masking",
        masked(temperature=HEATED | {"attack": "x"}),
        "/adversarial/.*epsilons",
    ),
    ("/adversarial/masking", masked(apart=[PAIR]), "/adversarial/masking/apart/0/difference: exp"),
    (
        "/adversarial/masking",
        masked(apart=[PAIR | {"other": "x"}]),
        "/adversarial/masking/apart/0: expected two attacks",
    ),
    ("/adversarial/worst_case/0/attacks", ["pgd"], "/adversarial/worst_case/0/attacks: expected"),
    ("/adversarial/worst_case/1/epsilon", 1 / 255, "/adversarial/worst_case/1: expected one worst"),
    ("/adversarial/n_images", 21, "/adversarial/n_images: expected at most 20, got 21"),
    ("/adversarial/worst_case", without_last, "/adversarial/worst_case: expected one for Linf"),
    ("/spectral/score_interval/0", -0.1, r"/spectral/score_interval: expected it inside \[0, 0.4"),
    ("/spectral/signed_score_interval/1", 0.6, "/spectral/signed_score_interval: expected it ins"),
    ("/corruption/conditions/3/probability_change/interval/1", more(1e-6), "/corruption/conditio"),
    ("/corruption/unnormalised_mean_error/interval/0", more(0.01), "/corruption/unnormalised_mea"),
    ("/corruption/unnormalised_mean_error/interval", [0.0, 1.0], r".*expected at most 0\.449"),
    ("/provenance/machine", "build-17.example", "/provenance/machine: expected a kind of proc"),
    ("/provenance/date", "2025-02-30T00:00:00Z", "/provenance/date: expected a date in UTC"),
    ("/model/name", "other", "/entry_id: expected 'cifar10--other--m4-"),
    ("/entry_id", "cifar10--resnet20", "/entry_id: expected 'cifar10--resnet20--m4-"),
]


@pytest.mark.parametrize(("path", "new", "message"), FLIPPED, ids=[f[0] for f in FLIPPED])
def test_flipped_field_is_named(make_entry: Make, path: str, new: Any, message: str) -> None:
    raw = make_entry()
    change(raw, path, new)
    found = problems(raw)
    assert any(re.match(message, problem) for problem in found), found


@pytest.mark.parametrize(
    "path", ["score_interval/1", "signed_score_interval/0", "distribution_interval/{band}/0"]
)
def test_jackknife_interval_lies_as_far_to_either_side(make_entry: Make, path: str) -> None:
    raw = make_entry(perturbed=False, n=150)  # so many that not every end is cut
    raw["spectral"]["tied_bands"] = raw["spectral"]["tied_bands"][:1]  # ties would allow more
    for name in ("score", "signed_score"):
        value, half = raw["spectral"][name], 0.01
        raw["spectral"][f"{name}_interval"] = [value - half, value + half]
    assert problems(raw) == []
    ends = raw["spectral"]["distribution_interval"]
    path = path.format(band=next(k for k, (low, high) in enumerate(ends) if low > 0 and high < 1))
    change(raw, f"/spectral/{path}", more(-1e-6))
    (found,) = problems(raw)
    assert found.startswith(f"/spectral/{path[:-2]}: expected it as far to either side of")


def test_where_bands_tie_an_interval_of_a_score_may_reach_further_to_one_side(
    make_entry: Make,
) -> None:
    raw = make_entry(perturbed=False, n=150)
    spectral = raw["spectral"]
    spectral["tied_bands"] = sorted({*spectral["tied_bands"], 0, 1})
    value = spectral["signed_score"]
    spectral["signed_score_interval"] = [value - 0.01, value + 0.02]
    assert problems(raw) == []
    spectral["score_intervals"] = "jackknife"
    (found, *_) = problems(raw)
    assert "signed_score_interval: expected it as far to either side" in found


def test_worst_case_lies_between_its_bounds(make_entry: Make) -> None:
    raw = make_entry()
    best = min(attack["accuracy"]["value"] for attack in raw["adversarial"]["attacks"][:2])
    case = raw["adversarial"]["worst_case"][0]["accuracy"]
    perfect = make_entry(seed=1)["clean_accuracy"]
    assert perfect["value"] > best  # else the flip below would flip nothing
    case.update(perfect)
    assert [p.split(":")[0] for p in problems(raw)] == ["/adversarial/worst_case/0/accuracy/value"]


def test_an_image_that_falls_at_a_budget_falls_at_a_larger_one(make_entry: Make) -> None:
    raw = make_entry()
    small, large = (case["accuracy"] for case in raw["adversarial"]["worst_case"])
    n, where = small["n"], "/adversarial/worst_case/1/accuracy: expected no image that does not"
    before, flags = (unpack_bits(one["images"], n) for one in (small, large))
    assert flags.any()
    assert not (flags & ~before).any()
    flags[np.flatnonzero(flags)[0]], flags[np.flatnonzero(~before)[0]] = False, True
    large["images"] = pack_bits(flags)  # as many images, one of them another
    (found,) = problems(raw)
    assert found.startswith(f"{where} withstand Linf 1/255 too, got 1 ")
    del large["images"]  # as in older entries
    assert problems(raw) == []
    for attack in raw["adversarial"]["attacks"]:  # so that only the rise below is wrong
        attack["accuracy"] = proportion(np.arange(n) < 12)
    large.update(proportion(np.arange(n) < round(small["value"] * n) + 2))
    (found,) = problems(raw)
    assert found.startswith(f"{where} withstand Linf 1/255 too, got 2 ")


def test_mce_needs_all_images_in_every_cell(make_entry: Make) -> None:
    raw = make_entry()
    cell = raw["corruption"]["conditions"][7]
    cell["error"] = proportion([True] * 21)
    cell["probability_change"]["n"] = 21
    found = problems(raw)
    assert "/corruption/mce: expected null, since condition 7 is of 21 images" in found[0]


def test_attack_twice_is_named(make_entry: Make) -> None:
    raw = make_entry()
    raw["adversarial"]["attacks"].append(raw["adversarial"]["attacks"][1])
    assert problems(raw) == ["/adversarial/attacks/4: expected every attack once, got pgd again"]


def test_mce_needs_all_fifteen(make_entry: Make) -> None:
    raw = make_entry(missing=("frost", "fog"))
    raw["corruption"]["mce"] = {
        "value": 0.9,
        "reference": "AlexNet",
        "reference_errors": {"fog": [0.5] * 5},
    }
    raw["corruption"]["error_over_published"] = {
        "value": 0.9,
        "reference": "alexnet_robustbench_5k",
    }
    found = problems(raw)
    assert found[0] == "/corruption/mce: expected null, since frost, fog is missing"
    assert found[1].startswith("/corruption/mce/reference: not an mCE: lacks")
    assert found[2].startswith("/corruption/error_over_published/reference: not an mCE: lacks")


@pytest.mark.parametrize(
    "text",
    [
        "/data/images",
        "see /etc/passwd",
        "~/weights.pth",
        "~me/weights.pth",
        "kit:/srv/kit",
        "file:weights FILE://host/x",
        r"C:\weights",
        "d:/weights",
        r"\\server\share\x",
        "$HOME/x",
        "${HOME}/x",
        r"%USERPROFILE%\x",
        "path=/opt/x",
        "(/opt/x)",
    ],
)
def test_path_in_any_string_is_refused(make_entry: Make, text: str) -> None:
    raw = make_entry()
    raw["model"]["weights"] = text
    raw["provenance"]["versions"] = {text: "1"}
    assert [problem.split(": expected no absolute path")[0] for problem in problems(raw)] == [
        "/model/weights",
        "/provenance/versions",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "http://localhost:80/x",
        "node7.cluster.internal",
        "a.LOCAL",
        "192.168.0.7",
        "see 127.0.0.1",
        "http://10.1.2.3/x",
        "me@build17:data",
        "me@build-17.example.org:x/y",
    ],
)
def test_private_host_in_any_string_is_refused(make_entry: Make, text: str) -> None:
    raw = make_entry()
    raw["submission"]["statement"] = text
    raw["provenance"]["versions"] = {"torch": text}
    assert [problem.split(": expected no name or address")[0] for problem in problems(raw)] == [
        "/provenance/versions/torch",
        "/submission/statement",
    ]


@pytest.mark.parametrize(
    "text", ["a\x00b", "\x1b[2J", "a\u202eb", "a\u200bb", "\ufeffa", "a\rb", "\x85"]
)
def test_text_that_hides_is_refused(make_entry: Make, text: str) -> None:
    raw = make_entry()
    raw["model"]["training"] = text
    assert problems(raw) == [
        f"/model/training: expected no control or invisible character, got {text!r}"
    ]


def test_part_of_the_images_has_other_ids(make_entry: Make) -> None:
    raw = make_entry()
    raw["spectral"]["image_ids_sha256"] = raw["data"]["image_ids_sha256"]
    assert problems(raw) == []
    raw["data"]["n_images"] = 19
    raw["spectral"]["n_images"] = 18
    assert "/spectral/image_ids_sha256: expected another for 18 of 19 images" in problems(raw)


@pytest.mark.parametrize(
    "text",
    [
        "torchvision:resnet50@IMAGENET1K_V1",
        "10.2.1.243",
        "me@example.org",
        "local",
        "é 漢 🙂",
        "two\nlines\tand tab",
        "https://example.org/a/b",
        "CC-BY/MIT",
        "timm/r50.a1",
        "eps 8/255",
        "a ~ b",
        "a / b",
        "</b>",
    ],
)
def test_other_strings_pass(make_entry: Make, text: str) -> None:
    raw = make_entry()
    raw["submission"]["statement"] = text
    assert problems(raw) == []


def test_a_selection_may_stand_in_the_id(make_entry: Make) -> None:
    raw = make_entry()
    plain, n = raw["entry_id"], raw["data"]["n_images"]
    assert problems({**raw, "entry_id": f"{plain}--n{n}"}) == []
    wrong = problems({**raw, "entry_id": f"{plain}--n{n + 1}"})
    assert wrong == [f"/entry_id: expected {plain!r} or '{plain}--n{n}', got '{plain}--n{n + 1}'"]
    whole = {**raw, "data": {**raw["data"], "n_available": n}, "entry_id": f"{plain}--n{n}"}
    assert problems(whole) == [f"/entry_id: expected {plain!r}, got '{plain}--n{n}'"]


def test_entry_id_must_be_the_files_name(make_entry: Make) -> None:
    assert problems(make_entry(), "other")[0].startswith("/entry_id: expected the file's name 'ot")


def test_entries_must_be_unique(make_entry: Make) -> None:
    one, two = make_entry(), make_entry("other", seed=1)
    assert clashes(parsed(one, two)) == []
    assert "got 'cifar10--resnet20--" in clashes(parsed(one, one))[0][1]
    two["model"]["weights_sha256"] = one["model"]["weights_sha256"]
    assert clashes(parsed(one, two))[0][1].startswith("/model/weights_sha256: expected one entry")
    two["data"]["image_ids_sha256"] = "0" * 64
    assert clashes(parsed(one, two)) == []


def test_load_entries_sorts_and_lists_all_problems(
    make_entry: Make, board: Callable[..., Path], tmp_path: Path
) -> None:
    folder = board(make_entry("zeta"), make_entry("alpha", seed=1))
    names = [entry.model.name for entry in load_entries(folder / "entries")]
    assert names == ["alpha", "zeta"]
    files = sorted((folder / "entries").rglob("*.json"), reverse=True)
    assert [entry.model.name for entry in load_entries(files)] == names
    for file, (old, new) in zip(files, [('"n": 20', '"n": 21'), ("{", "[")], strict=True):
        file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_entries(folder / "entries")
    assert "zeta" in str(caught.value)
    assert "alpha" in str(caught.value)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        load_entries(tmp_path / "nowhere")


def test_links_large_and_absent_files_are_refused(make_entry: Make, tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(make_entry()))
    link = tmp_path / "link.json"
    link.symlink_to(file)
    large = tmp_path / "large.json"
    large.write_bytes(b" " * 5_000_001)
    for path, message in [
        (link, "symbolic link"),
        (large, "at most 5,000,000"),
        (tmp_path / "no", "cannot read"),
    ]:
        with pytest.raises(InputError, match=message):
            load_entries([path])


def test_worst_case_is_over_all_attacked_images(make_entry: Make) -> None:
    raw = make_entry()
    case = raw["adversarial"]["worst_case"][1]["accuracy"]
    hits = round(case["value"] * case["n"])
    both = [True, True] * hits + [False, False] * (case["n"] - hits)
    case.update(proportion(both, by_image=True))
    assert problems(raw) == ["/adversarial/worst_case/1/accuracy/n: expected 20 images, got 40"]


BOARD = Path(__file__).resolve().parents[2] / "leaderboard" / "entries"
MADE_WITH = {
    "Linf": "cifar10/cifar10--c10_cnn_a_adv--m8-chebyshev-zero-exact-1254609b--robustbench-Linf",
    "corruptions": "imagenet/imagenet--mcunet_5fps--m8-chebyshev-zero-exact-1254609b"
    "--robustbench-corruptions",
}


def committed(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((BOARD / f"{MADE_WITH[name]}.json").read_text())
    return raw


def thrice(old: list[Any]) -> list[Any]:
    return [*old, *old, *old]


def no_more_than_half(old: list[Any]) -> list[Any]:
    return old[: len(old) // 2]


BENCHMARK: list[tuple[str, str, Any, str]] = [
    ("Linf", "/benchmark/after_attack/9/accuracy", 0.99, "only fall"),
    ("Linf", "/benchmark/after_attack/9/accuracy", 0.0, "last, got 0"),
    ("Linf", "/benchmark/after_attack/0/accuracy", 0.01, "first, got 0.01"),
    ("Linf", "/benchmark/after_attack", [], r"expected epsilons \[0.0078.*got \[\]"),
    ("Linf", "/benchmark/after_attack", no_more_than_half, r"got \[0.0078[0-9]*\]"),
    ("Linf", "/benchmark/after_attack/9/epsilon", 0.1, "expected epsilons"),
    ("Linf", "/benchmark/after_attack/3/attack", "fab", "'fab-t', 'square'], got"),
    ("Linf", "/benchmark/threat_model", "corruptions", "/adversarial: expected null"),
    ("Linf", "/benchmark/threat_model", "L2", "/adversarial/attacks/0/norm: expected 'L2'"),
    ("Linf", "/adversarial", None, "/adversarial: expected a group"),
    ("Linf", "/benchmark/profiles", thrice, "/benchmark/profiles: expected the conditions"),
    ("Linf", "/benchmark/profiles/0/condition", "whatever", "got \\['whatever'"),
    ("Linf", "/benchmark/profiles/1/image_ids_sha256", "0" * 64, "profiles/1/image_ids_sha256"),
    ("Linf", "/benchmark/selection", "RobustBench's list", "/benchmark/selection"),
    ("Linf", "/benchmark/selection", "the best ones", "/benchmark/selection"),
    ("Linf", "/benchmark/corrupted_preprocessing", "Res224", "corrupted_preprocessing: expected n"),
    ("corruptions", "/benchmark/threat_model", "corruptions_3d", "expected 'corruptions', got"),
    ("corruptions", "/benchmark/threat_model", "Linf", "/corruption: expected null"),
    ("corruptions", "/corruption", None, "/corruption: expected a group"),
    ("corruptions", "/benchmark/selection", "all images there are", "/benchmark/selection"),
    ("corruptions", "/benchmark/selection", "RobustBench's list", "/benchmark/selection"),
    ("corruptions", "/data/seed", 1, "/benchmark/selection"),
    ("corruptions", "/benchmark/profiles", thrice, "/benchmark/profiles: expected"),
    ("corruptions", "/benchmark/profiles/0/condition", "clean", "/benchmark/profiles: expected"),
]


@pytest.mark.parametrize(("kind", "path", "new", "message"), BENCHMARK)
def test_a_benchmark_that_contradicts_its_entry_is_named(
    kind: str, path: str, new: Any, message: str
) -> None:
    if (kind, new) == ("corruptions", "RobustBench's list"):
        pytest.importorskip("pyautoattack")  # the list is RobustBench's own
    raw = committed(kind)
    assert problems(raw) == []
    change(raw, path, new)
    found = problems(raw)
    assert any(re.search(message, problem) for problem in found), found


def test_a_benchmark_may_have_no_profiles() -> None:
    raw = committed("Linf")
    raw["benchmark"]["profiles"] = []
    assert problems(raw) == []
