"""The demo from end to end, with networks that hardly train and few images."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from iaside_plugins import SpectralImportance
from iaside_plugins.cli import command as cli
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import build, validate
from iaside_plugins.protocol import Protocol
from iaside_plugins.workflows import digits
from iaside_plugins.workflows.digits_demo import DigitsDemo, robust_accuracy, summary

N = 3  # images: 3 x 75 corrupted ones are made once, for all networks


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "EPOCHS", 1)
        demo = DigitsDemo(
            folder, n_seeds=1, n_images=N, protocol=Protocol(n_bands=4), attack_steps=1
        )
        trained = demo.run(lines.append)
    return folder, trained, lines


def test_every_network_has_an_entry_a_result_and_weights(ran):
    folder, trained, lines = ran
    assert [(one.training, one.seed) for one in trained] == [
        (training, 0) for training in digits.TRAININGS
    ]
    files = sorted((folder / "entries" / "digits").glob("*.json"))
    assert len(files) == len(lines) == 4
    assert validate(files) == []
    for one, line in zip(trained, lines, strict=True):
        name = f"digits-{one.training}-{one.seed}"
        assert one.entry["model"]["name"] == name
        assert one.entry["model"]["training"] == one.training
        assert one.entry["data"]["n_images"] == N
        assert (folder / "weights" / f"{name}.pth").is_file()
        saved = SpectralImportance.load(folder / "results" / f"{name}.npz")
        assert saved.shapley_values.tolist() == one.entry["spectral"]["shapley_values"]
        assert line.startswith(one.training)
        assert f"clean {one.entry['clean_accuracy']['value']:.3f}" in line
    assert len({one.entry["model"]["weights_sha256"] for one in trained}) == 4


def test_board_and_plot(ran):
    folder, _, _ = ran
    assert build(folder, check=True) == []
    assert (folder / "profiles.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "unfinished").exists()
    assert len(list((folder / "images").rglob("*.png"))) == digits.N_TEST


def test_summary_holds_the_entries_means(ran):
    _, trained, _ = ran
    lines = summary(trained).splitlines()
    for training in digits.TRAININGS:
        group = [one for one in trained if one.training == training]
        row = next(line for line in lines if line.startswith(training))
        clean = [one.entry["clean_accuracy"]["value"] for one in group]
        assert f"{np.mean(clean):.2f} [{min(clean):.2f}, {max(clean):.2f}]" in row
        robust = [robust_accuracy(one.entry) for one in group]
        assert f"{np.mean(robust):.2f} [{min(robust):.2f}, {max(robust):.2f}]" in row
        psi = np.mean([one.result.shapley_values for one in group], axis=0)
        assert row.split()[-2:] == [f"{psi[:2].sum():+.2f}", f"{psi[2:].sum():+.2f}"]


def test_summary_names_the_bands_there_are(ran):
    """Four bands were asked for: nothing may speak of band 7."""
    text = summary(ran[1])
    assert "2-7" not in text
    assert "band 7" not in text
    assert "2-3" in text


def test_worst_case_of_the_headline_budget(ran):
    entry = ran[1][0].entry
    cells = [c for c in entry["adversarial"]["worst_case"] if c["epsilon"] == 0.1]
    assert robust_accuracy(entry) == cells[0]["accuracy"]["value"]
    assert cells[0]["attacks"] == ["fgsm", "pgd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 1}, "2 to 400"),
        ({"n_images": 401}, "401"),
        ({"n_seeds": 0}, "one seed"),
        ({"n_train": 63}, "64 to 1397"),
        ({"n_train": 1398}, "1398"),
    ],
)
def test_numbers_out_of_range(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        DigitsDemo(tmp_path / "demo", **options).run()
    assert not (tmp_path / "demo").exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        DigitsDemo(tmp_path / "file").run()


def _command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["iaside", "demo", "--digits", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_command(ran, monkeypatch, capsys):
    """Over the finished folder of the API's run: the cached corrupted images are used again."""
    folder, trained, _ = ran
    monkeypatch.setattr(digits, "EPOCHS", 1)
    monkeypatch.setattr(digits, "TRAININGS", digits.TRAININGS[:2])
    arguments = ("--out", folder, "--n-seeds", 1, "--n-images", N, "--n-bands", 4)
    code, out, err = _command(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    assert "What you are looking at" in out
    assert f"are in {folder}/" in " ".join(out.split())
    assert len(re.findall(r"^\w+ +seed 0: clean", out, re.M)) == 2
    code, out, err = _command(monkeypatch, capsys, *arguments, "--json", "-")
    entries = json.loads(out)["entries"]
    assert [entry["model"]["name"] for entry in entries] == [
        f"digits-{training}-0" for training in digits.TRAININGS
    ]
    # The same numbers as through the API, apart from 20 instead of 1 step of the attack.
    for entry, one in zip(entries, trained, strict=False):
        assert entry["spectral"]["shapley_values"] == one.entry["spectral"]["shapley_values"]
        assert entry["corruption"] == one.entry["corruption"]


def test_command_refuses_in_one_line(tmp_path, monkeypatch, capsys):
    code, _, err = _command(monkeypatch, capsys, "--out", tmp_path / "d", "--n-images", 1000)
    assert code == 2
    assert err.count("\n") == 1
    assert "1000" in err
    assert not Path(tmp_path / "d").exists()
