"""Two runs of an entry are compared number by number."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path

import pytest

WHERE = importlib.util.spec_from_file_location(
    "bench_rerun", Path(__file__).with_name("bench_rerun.py")
)
bench_rerun = importlib.util.module_from_spec(WHERE)
WHERE.loader.exec_module(bench_rerun)

ENTRY = {
    "model": {"name": "net", "training": None},
    "data": {"n_images": 10},
    "clean_accuracy": {"value": 0.5, "images": "AA=="},
    "spectral": {"shapley_values": [0.1, 0.2], "n_forward": 9, "forwards": ["plain"]},
    "decomposition": {"n_images": 5, "error": [0.2]},
    "provenance": {"date": "2026-01-01T00:00:00Z"},
    "submission": {"status": "self-reported"},
}


def changed(change):
    entry = copy.deepcopy(ENTRY)
    change(entry)
    return entry


def compare(folder, second):
    for name, entry in (("first", ENTRY), ("second", second)):
        (folder / name).mkdir()
        (folder / name / "net.json").write_text(json.dumps(entry))
    report = folder / "rerun.json"
    code = bench_rerun.main([str(folder / "first"), str(folder / "second"), "--json", str(report)])
    return code, json.loads(report.read_text())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda e: e["provenance"].update(date="2026-01-02T00:00:00Z"), 0),
        (lambda e: e["spectral"].update(n_forward=0, forwards=[]), 0),  # a resumed run
        (lambda e: e["clean_accuracy"].update(value=0.6, images="gA=="), 0),  # one image
        (lambda e: e["clean_accuracy"].update(value=0.7), 1),
        (lambda e: e["spectral"].update(shapley_values=[0.1, 0.2009]), 0),
        (lambda e: e["spectral"].update(shapley_values=[0.1, 0.2011]), 1),
        (lambda e: e["decomposition"].update(error=[0.4]), 0),
        (lambda e: e["decomposition"].update(error=[0.41]), 1),
    ],
)
def test_what_may_differ(tmp_path, change, code):
    found, (row,) = compare(tmp_path, changed(change))
    assert (found, row["name"]) == (code, "net")


def test_the_greatest_difference_is_kept_by_part(tmp_path):
    second = changed(lambda e: e["spectral"].update(shapley_values=[0.1001, 0.2004]))
    _, (row,) = compare(tmp_path, second)
    assert row["differences"]["spectral"] == pytest.approx(0.0004)
    assert row["differences"]["clean_accuracy"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e["model"].update(name="other"), "/model/name: 'net' and 'other'"),
        (lambda e: e["spectral"]["shapley_values"].append(0.0), "only one has /spectral"),
        (lambda e: e["clean_accuracy"].update(value=None), "value: 0.5 and None"),
        (lambda e: e["clean_accuracy"].update(value=float("nan")), "value: 0.5 and nan"),
    ],
)
def test_anything_else_is_an_error(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        compare(tmp_path, changed(change))


def test_nothing_to_compare_is_no_success(tmp_path):
    assert bench_rerun.main([str(tmp_path), str(tmp_path)]) == 1
