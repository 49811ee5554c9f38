"""The demo on real images: from end to end with a tiny net, and its own models on their images."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from iaside_plugins.cli import command as cli
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.display.text import fitted
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import build, validate
from iaside_plugins.protocol import Protocol
from iaside_plugins.workflows import demo as workflow
from iaside_plugins.workflows.demo import SUBJECTS, Demo, Subject, evaluated_text, summary
from iaside_plugins.workflows.source import DataSource, find_images, open_images, open_model

TINY = (Subject("python:tiny_model:network", "foolbox:cifar10", (8 / 255,)),)
N = 3
BANDS = Protocol(n_bands=3, estimator="permutation")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    options = {"n_images": N, "protocol": BANDS, "attack_steps": 1, "workers": 0}
    job = Demo(folder, subjects=TINY, **options)
    found = job.run(job.prepare(), said.append)
    return folder, found, said


def test_entry_board_result_and_picture(ran):
    folder, (one,), _ = ran
    files = sorted((folder / "entries" / "cifar10").glob("*.json"))
    assert len(files) == 1
    assert validate(files) == []
    assert build(folder, check=True) == []
    assert (folder / f"why-{one.name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "unfinished").exists()
    saved = ErrorDecomposition.load(folder / "results" / f"{one.name}.npz")
    np.testing.assert_array_equal(saved.error.bands, one.decomposition.error.bands)
    assert one.entry["decomposition"]["n_images"] == one.entry["data"]["n_images"] == N


def test_what_is_said_adds_up_and_agrees_with_the_entry(ran):
    _, (one,), said = ran
    text = "\n".join(evaluated_text(one, 100))
    assert said == ["\n".join(evaluated_text(one))]
    entry = one.entry
    assert f"{entry['clean_accuracy']['value']:.1%}" in text
    assert f"{1 - entry['corruption']['unnormalised_mean_error']['value']:.1%}" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("fog", "glass blur"))]
    for row in rows:
        *parts, error = map(float, row[-5:])  # clean, three bands, error
        assert round(sum(parts), 1) == error
    assert all(len(line) <= 72 for line in evaluated_text(one, 72))
    assert "known to" in summary([one])
    for width in (60, 80, 120, 200):
        shown = fitted("\n".join([*evaluated_text(one, width), summary([one])]), width)
        assert max(map(len, shown.split("\n"))) <= width


@pytest.mark.parametrize("n", [1, 21])
def test_numbers_out_of_range(tmp_path, n):
    with pytest.raises(InputError, match="2 to 20"):
        Demo(tmp_path / "demo", n_images=n).prepare()
    assert not (tmp_path / "demo").exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        Demo(tmp_path / "file").prepare()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.spec)
def test_its_models_know_its_images(subject):
    """A wrong normalisation, or labels in another order, would be right far less often."""
    model = open_model(subject.spec, device="cpu")
    source = DataSource(subject.data, batch_size=4)
    records, _ = find_images(source, model)
    assert len(records) == workflow.N_IMAGES
    hits = [
        int((model(images).argmax(1) == labels).sum())
        for images, labels, _ in open_images(source, model)
    ]
    assert sum(hits) >= 17


def test_command(ran, monkeypatch, capsys):
    folder, (one,), _ = ran
    monkeypatch.setattr(Demo, "prepare", lambda self: [])
    monkeypatch.setattr(Demo, "run", lambda self, prepared, say: [one])
    monkeypatch.setattr(sys, "argv", ["iaside", "demo", "--out", str(folder), "--json", "-"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, _ = capsys.readouterr()
    assert end.value.code == 0
    assert json.loads(out)["entries"] == [one.entry]
    monkeypatch.setattr(sys, "argv", ["iaside", "demo", "--n-seeds", "2"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "--n-seeds needs --digits" in capsys.readouterr().err
