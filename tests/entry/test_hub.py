"""Files for the Hugging Face Hub: their host reads them, and they say what the entry says."""

from __future__ import annotations

import re

import pytest

from iaside_plugins.entry.hub import files, results
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import BOARD

yaml = pytest.importorskip("yaml")
HOSTILE = 'a: "b"\n---\n- {x: !!python/object:os.system} \\ 漢'


@pytest.fixture(scope="module")
def committed() -> list[Entry]:
    return load_entries(BOARD / "entries")


def test_results_are_read_by_their_host_as_they_are(committed: list[Entry]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    if not hasattr(hub, "eval_result_entries_to_yaml"):
        pytest.skip("needs a huggingface_hub that knows .eval_results")
    for entry in committed:
        text = files(entry, "owner/images")["model/.eval_results/images.yaml"]
        found = yaml.safe_load(text)
        parsed = hub.parse_eval_result_entries(found)
        assert hub.eval_result_entries_to_yaml(parsed) == found  # as the host itself writes them
        assert {one.dataset_id for one in parsed} == {"owner/images"}
        assert [one.value for one in parsed] == [result.value for result in results(entry)]
        assert {one.date for one in parsed} == {entry.provenance.date}


def test_every_task_of_a_result_is_one_of_the_benchmark(committed: list[Entry]) -> None:
    for entry in committed:
        made = files(entry, "owner/images", split="validation")
        benchmark = yaml.safe_load(made["dataset/eval.yaml"])
        tasks = [task["id"] for task in benchmark["tasks"]]
        assert tasks == [
            one["dataset"]["task_id"]
            for one in yaml.safe_load(made["model/.eval_results/images.yaml"])
        ]
        assert len(set(tasks)) == len(tasks)
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", task) for task in tasks)
        assert {task["split"] for task in benchmark["tasks"]} == {"validation"}
        assert set(benchmark) == {"name", "description", "evaluation_framework", "tasks"}


def test_values_are_those_of_the_entry(committed: list[Entry]) -> None:
    entry = next(e for e in committed if e.corruption and e.adversarial and not e.benchmark)
    found = {result.task: result for result in results(entry)}
    assert found["accuracy"].value == entry.clean_accuracy.value
    score = found[f"signed_score_{entry.protocol.protocol_id}"]
    assert score.value == entry.spectral.signed_score
    assert f"n = {entry.spectral.n_images}, 95 % interval [" in score.notes
    assert entry.corruption is not None
    error = found["mean_corruption_error_unnormalised_generated_15-corruptions"]
    assert error.value == entry.corruption.unnormalised_mean_error.value
    assert entry.adversarial is not None
    for case in entry.adversarial.worst_case:
        (task,) = [t for t in found if found[t].value == case.accuracy.value and "robust" in t
                   and found[t].notes.count(f"{case.norm} ")
                   and f"{case.epsilon * 255:g}-255" in t]  # fmt: skip
        assert "fgsm" in task


def test_hostile_text_stays_text(committed: list[Entry]) -> None:
    entry = committed[0]
    model = entry.model.model_copy(update={"name": HOSTILE})
    entry = parse_entry(entry.model_copy(update={"model": model}).model_dump_json(), "x.json")
    made = files(entry, "owner/images")
    assert yaml.safe_load(made["model/model-index.yaml"])["model-index"][0]["name"] == HOSTILE
    assert len(yaml.safe_load(made["model/.eval_results/images.yaml"])) == len(results(entry))


@pytest.mark.parametrize("name", ["imagenet", "a/b/c", "../x", "a/", "a/..", "a b/c", ""])
def test_a_benchmark_is_a_repository(committed: list[Entry], name: str) -> None:
    with pytest.raises(InputError, match="expected benchmark=OWNER/NAME on the Hub, got"):
        files(committed[0], name)
