"""RobustBench's JSON: its text, our keys, and whose number may be replaced by whom."""

from __future__ import annotations

import csv
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins import mean_corruption_error
from iaside_plugins.adapters.robustbench_adapter.tables import read_errors, read_table
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.errors import InputError

OWN = {"iaside_Linf": {"clean_accuracy": 0.9, "weights_sha256": "a" * 64}}


def measured(robust: float = 0.5, clean: float = 0.9) -> dict[str, object]:
    return model_info.measured("Linf", "cifar10", clean=clean, robust=robust, eps=8 / 255, mce=None)


def update(file: Path, run: dict[str, object]) -> dict[str, object]:
    model_info.update(file, run, OWN)
    found: dict[str, object] = json.loads(file.read_text())
    return found


@given(st.integers(1, 50000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_percents_are_robustbenchs_text(share: tuple[int, int]) -> None:
    value = share[0] / share[1]
    assert model_info.percent(value) == str(round(value * 100, 2))


@pytest.mark.parametrize(
    ("share", "text"), [(0.52905, "52.91"), (0.529, "52.9"), (1.0, "100.0"), (0.800039, "80.0")]
)
def test_percents_by_hand(share: float, text: str) -> None:
    assert model_info.percent(share) == text


def test_a_new_file_has_every_field(tmp_path: Path) -> None:
    found = update(tmp_path / "deep" / "mine.json", measured())
    assert list(found)[: len(model_info.FIELDS)] == list(model_info.FIELDS)
    assert found["eps"] == "8/255"  # as in the published files, and not 0.0313... (D12)
    assert found["autoattack_acc"] == "50.0"
    assert found["name"] is None


def test_handwritten_and_published_fields_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "mine.json"
    theirs = {
        "name": "A paper",
        "external": "48.00",
        "unreliable": False,
        "footnote": "",
        "clean_acc": "91.00",
        "eps": None,
        "spectral_note": 3,
    }
    file.write_text(json.dumps(theirs))
    found = update(file, measured())
    assert found | {k: v for k, v in theirs.items() if k != "eps"} == found
    assert found["eps"] == "8/255"  # nothing stood there
    assert found["autoattack_acc"] == "50.0"
    assert found["iaside_Linf"]["written"]["clean_acc"] == "90.0"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "clean_acc '91.00'" in record.getMessage()


def test_our_own_former_number_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    update(file, measured(0.5))
    assert update(file, measured(0.4))["autoattack_acc"] == "40.0"
    # RobustBench, or a person, wrote another: theirs now.
    changed = json.loads(file.read_text()) | {"autoattack_acc": "39.0"}
    file.write_text(json.dumps(changed))
    found = update(file, measured(0.3))
    assert found["autoattack_acc"] == "39.0"
    assert update(file, measured(0.2))["autoattack_acc"] == "39.0"


def test_the_same_run_twice_leaves_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    update(file, measured())
    first = file.read_bytes()
    update(file, measured())
    assert file.read_bytes() == first


def test_2d_and_3d_stand_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    for threat_model, robust, mce in (("corruptions", 0.4, 0.8), ("corruptions_3d", 0.3, None)):
        run = model_info.measured(
            threat_model, "imagenet", clean=0.9, robust=robust, eps=None, mce=mce
        )
        own = {f"iaside_{threat_model}": {"weights_sha256": "a" * 64}}
        model_info.update(file, run, own)
    found = json.loads(file.read_text())
    assert (found["corruptions_acc"], found["corruptions_acc_3d"]) == ("40.0", "30.0")
    assert (found["corruptions_mce"], found["corruptions_mce_3d"]) == ("80.0", None)
    assert found["eps"] is None
    assert {"iaside_corruptions", "iaside_corruptions_3d"} < set(found)


def merged(
    existing: dict[str, Any],
    threat_model: str = "Linf",
    *,
    weights: str = "a",
    standard: bool = True,
    **given: Any,
) -> dict[str, Any]:
    numbers = {"clean": 0.9, "robust": 0.5, "eps": 8 / 255, "mce": None, **given}
    if threat_model.startswith("corruptions"):
        numbers["eps"] = None
    run = model_info.measured(threat_model, "imagenet", standard=standard, **numbers)
    name = model_info.group_name(threat_model, standard)
    return model_info.merged(existing, run, {name: {"weights_sha256": weights, "n": 5}})


def test_attacks_of_the_callers_choice_are_no_autoattack_accuracy() -> None:
    found = merged({}, standard=False)
    assert found["autoattack_acc"] is None
    assert found["eps"] is None
    assert "iaside_Linf_custom" in found
    both = merged(merged({}), standard=False, robust=0.1)
    assert both["autoattack_acc"] == "50.0"
    assert merged(both, robust=0.4)["autoattack_acc"] == "40.0"  # still known to be ours


def test_a_budget_and_its_accuracy_are_one(caplog: pytest.LogCaptureFixture) -> None:
    """A kept eps must not stand beside the accuracy at another one."""
    theirs = {"eps": "8/255", "clean_acc": None, "autoattack_acc": None}
    found = merged(theirs, eps=1 / 255)
    assert (found["eps"], found["autoattack_acc"]) == ("8/255", None)
    assert found["clean_acc"] == "90.0"
    assert found["iaside_Linf"]["written"]["eps"] == "1/255"
    assert "eps '8/255'" in caplog.text
    assert merged(theirs)["autoattack_acc"] == "50.0"
    assert merged({**theirs, "eps": 8 / 255})["autoattack_acc"] == "50.0"  # RobustBench's number
    assert merged({"eps": None, "autoattack_acc": "49.0"})["eps"] is None
    ours = merged(merged({}), eps=1 / 255, robust=0.8)
    assert (ours["eps"], ours["autoattack_acc"]) == ("1/255", "80.0")


def test_a_mean_and_its_mce_are_one() -> None:
    first = merged({}, "corruptions", mce=0.8)
    again = merged(first, "corruptions", robust=0.4)
    assert (again["corruptions_acc"], again["corruptions_mce"]) == ("40.0", None)
    theirs = merged({"corruptions_acc": "49.0"}, "corruptions", mce=0.8)
    assert (theirs["corruptions_acc"], theirs.get("corruptions_mce")) == ("49.0", None)


def test_groups_of_another_model_go_with_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    first = merged({"corruptions_acc_3d": "12.0"}, "corruptions", mce=0.8)
    first |= {"iaside_spectral": {"score": 1}, "iaside_protocol": {}}  # of no known weights
    other = merged(first, "corruptions_3d", weights="b", robust=0.12, clean=0.7)
    assert [name for name in other if name.startswith("iaside_")] == ["iaside_corruptions_3d"]
    assert other["corruptions_acc"] is None
    assert other["corruptions_mce"] is None
    assert other["clean_acc"] == "70.0"
    assert other["corruptions_acc_3d"] == "12.0"
    assert caplog.text == ""


def test_what_any_run_of_ours_wrote_is_ours(caplog: pytest.LogCaptureFixture) -> None:
    found = merged(merged({}, "corruptions"), "corruptions_3d", clean=0.8)
    assert found["clean_acc"] == "80.0"
    assert merged(found, "corruptions", clean=0.7)["clean_acc"] == "70.0"
    assert caplog.text == ""


@pytest.mark.parametrize("content", ["[1]", "{", ""])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(InputError, match="nothing can be added"):
        update(file, measured())
    assert file.read_text() == content


@pytest.mark.parametrize(
    ("part", "table"), [("", "alexnet_robustbench_5k"), ("_3d", "alexnet_robustbench_3dcc_5k")]
)
def test_every_published_mce_from_robustbenchs_tables(kit: Path, part: str, table: str) -> None:
    """12 models, as text; from a checkout (ROBUSTBENCH), else from the published facts."""
    facts = kit.parent / "facts"
    checkout = Path(os.environ.get("ROBUSTBENCH", "nowhere")) / "model_info/imagenet/corruptions"
    if checkout.is_dir():
        file = checkout / f"unaggregated_results{part}.csv"
        published = {f.stem: json.loads(f.read_text()) for f in checkout.glob("*.json")}
    elif (facts / "robustbench_published.csv").is_file():
        file = facts / f"robustbench_unaggregated_results{part}.csv"
        with (facts / "robustbench_published.csv").open() as rows:
            published = {r["model_id"]: r for r in csv.DictReader(rows) if r["corruptions_mce"]}
    else:
        pytest.skip("neither a RobustBench checkout (ROBUSTBENCH) nor the published facts")
    models = [name for name in read_table(file).index if name in published]
    assert len(models) == 12
    reference = read_errors(file, "AlexNet")
    for model in models:
        errors = read_errors(file, model)
        expected = float(published[model][f"corruptions_mce{part}"])
        for denominator in (reference, table):
            found = model_info.percent(mean_corruption_error(errors, denominator))
            assert float(found) == expected, model
