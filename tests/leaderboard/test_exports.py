"""Exports say what the entry says, in text that its readers parse, whatever its strings hold."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from board_entries import Make
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.exports import FORMATS, export
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Entry
from iaside_plugins.entry.yaml import to_yaml
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import BOARD

yaml = pytest.importorskip("yaml")
HOSTILE = 'a: "b"\n---\n- {x: !!python/object:os.system} \\ % $ # & _ ~ ^ }{ @misc{y, 漢 🙂'


def parsed(raw: dict[str, Any]) -> Entry:
    return parse_entry(json.dumps(raw), "x.json")


@pytest.fixture(scope="module")
def committed() -> list[Entry]:
    return load_entries(BOARD / "entries")


def test_every_committed_entry_can_be_exported(committed: list[Entry]) -> None:
    for entry in committed:
        card = yaml.safe_load(export(entry, "model-card"))
        (model,) = card["model-index"]
        assert model["name"] == entry.model.name
        metrics = [m for result in model["results"] for m in result["metrics"]]
        clean, signed = metrics[:2]
        assert clean["value"] == entry.clean_accuracy.value
        assert tuple(clean["args"]["interval"]) == entry.clean_accuracy.interval
        assert signed["value"] == entry.spectral.signed_score
        names = {m["type"] for m in metrics}
        assert ("mean_corruption_error_unnormalised" in names) == (entry.corruption is not None)
        has_mce = entry.corruption is not None and entry.corruption.mce is not None
        assert ("mce" in names) == has_mce
        if entry.adversarial is not None:
            assert [m["value"] for m in metrics if m["type"] == "robust_accuracy"] == [
                case.accuracy.value for case in entry.adversarial.worst_case
            ]
        assert export(entry, "bibtex").startswith("@misc{")


def test_model_card_is_what_its_host_reads(committed: list[Entry]) -> None:
    cards = pytest.importorskip("huggingface_hub.repocard_data")
    index = yaml.safe_load(export(committed[1], "model-card"))["model-index"]
    name, results = cards.model_index_to_eval_results(index)
    assert name == committed[1].model.name
    assert results[0].metric_value == committed[1].clean_accuracy.value
    assert results[0].metric_args["n"] == committed[1].clean_accuracy.n
    assert {result.task_type for result in results} == {"image-classification"}


def test_mce_stands_under_its_name_and_reference(make_entry: Make) -> None:
    card = yaml.safe_load(export(parsed(make_entry()), "model-card"))
    metrics = [m for result in card["model-index"][0]["results"] for m in result["metrics"]]
    (mce,) = [m for m in metrics if m["type"] == "mce"]
    assert mce["value"] == 1.0
    assert mce["args"] == {"reference": "AlexNet", "source": "generated"}


def test_robustbench_json_is_that_of_its_adapter(committed: list[Entry]) -> None:
    made = [entry for entry in committed if entry.benchmark is not None]
    assert {e.benchmark.threat_model for e in made if e.benchmark} >= {"Linf", "corruptions"}
    for entry in made:
        fields = json.loads(export(entry, "robustbench"))
        assert fields["clean_acc"] == str(round(100 * entry.clean_accuracy.value, 2))
        assert entry.benchmark is not None
        group = fields[f"iaside_{entry.benchmark.threat_model}"]
        assert group["spectral"]["signed_score"] == entry.spectral.signed_score
        assert group["weights_sha256"] == entry.model.weights_sha256
        if entry.adversarial is not None:
            robust = entry.adversarial.attacks[0]
            assert fields["autoattack_acc"] == str(round(100 * robust.accuracy.value, 2))
            assert fields["eps"] == format_budget(robust.epsilon)
            assert group["attack_order"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
            assert fields["corruptions_acc"] is None
        else:
            assert fields["autoattack_acc"] is None
            assert entry.corruption is not None  # an mCE needs a reference on the same images
            assert (fields["corruptions_mce"] is None) == (entry.corruption.mce is None)


def test_other_entries_have_no_number_of_robustbench(make_entry: Make) -> None:
    with pytest.raises(InputError, match="was not made inside RobustBench"):
        export(parsed(make_entry()), "robustbench")
    with pytest.raises(InputError, match="among robustbench, model-card, bibtex, or hf"):
        export(parsed(make_entry()), "csv")
    assert list(FORMATS) == ["robustbench", "model-card", "bibtex"]


def test_hostile_strings_stay_text(make_entry: Make) -> None:
    raw = make_entry(HOSTILE)
    raw["data"]["note"] = HOSTILE
    raw["submission"]["submitter"] = HOSTILE
    entry = parsed(raw)
    (model,) = yaml.safe_load(export(entry, "model-card"))["model-index"]
    assert model["name"] == HOSTILE
    assert model["results"][0]["dataset"]["args"]["note"] == HOSTILE
    record = export(entry, "bibtex")
    assert record.count("{") == record.count("}")  # as BibTeX counts, which knows no \{
    assert len(re.findall(r"^@", record, re.MULTILINE)) == 1
    assert len(record.splitlines()) == 6
    depths = []
    for line in record.splitlines()[1:-1]:
        depth = 0
        for letter in line:
            depth += {"{": 1, "}": -1}.get(letter, 0)
            depths.append(depth)
        assert depth == 0
    assert min(depths) == 0
    for special in "%$#&_":
        assert not re.search(rf"(?<!\\){re.escape(special)}", record)
    name = record.split("{{")[1].split(" on cifar10")[0]  # read back, it is the name on one line
    for letter, command in {"{": "left", "}": "right"}.items():
        name = name.replace(rf"\textbrace{command}{{}}", letter)
    for letter, command in {"~": "asciitilde", "^": "asciicircum", '"': "quotedbl"}.items():
        name = name.replace(rf"\text{command}{{}}", letter)
    name = re.sub(r"\\([%$#&_])", r"\1", name).replace(r"\textbackslash{}", "\\")
    assert name == " ".join(HOSTILE.split())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | TEXT
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_yaml_is_read_as_the_same_values(value: dict[str, Any]) -> None:
    found = yaml.safe_load(to_yaml(value))
    assert found == value
    assert json.dumps(found) == json.dumps(value)  # 1 stays an integer and 1.0 a float


@pytest.mark.parametrize("text", ["no", "1e-05", "2020-01-01", "~", "!!x", "- a", "#", "", "on"])
def test_no_text_becomes_another_type(text: str) -> None:
    assert yaml.safe_load(to_yaml({text: [text, 1e-05, -0.0, 1e22]})) == {
        text: [text, 1e-05, -0.0, 1e22]
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_yaml({"a": float("nan")})
