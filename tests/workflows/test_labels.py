"""Labels that depend on the model: of some classes only, or its own predictions."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import gathered, picture, save
from torch import nn

from iaside_plugins import spectral_importance
from iaside_plugins.adapters.imagenet.labels import known_map
from iaside_plugins.adapters.models.load import Classifier, load_model
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.provenance import state_digest
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.source import DataSource, open_images, open_model

WNIDS = tuple(known_map("imagenet").index)
PROTOCOL = Protocol(n_bands=3)


def thousand() -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1000))
    with torch.no_grad():
        net[2].weight -= net[2].weight.mean(dim=1, keepdim=True)  # no class by the mean alone
        net[2].weight.mul_(20)
        net[2].bias.zero_()
    return net


def few() -> nn.Module:
    return nn.Sequential(thousand(), nn.Linear(1000, 3))


@pytest.fixture
def model() -> Classifier:
    return load_model(f"python:{__name__}:thousand")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for k, label in enumerate((5, 5, 17, 999)):
        save(tmp_path / "data" / WNIDS[label] / f"{k}.png", picture(32, seed=k))
    return tmp_path / "data"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for k in range(6):
        save(tmp_path / "flat" / f"{k}.png", picture(40, seed=k))
    return tmp_path / "flat"


def test_outputs_restricted_to_the_classes_with_images(folders: Path, model: Classifier) -> None:
    images = gathered(open_images(DataSource(folders), model))[0]
    expected = model(images)[:, [5, 17, 999]]
    whole = state_digest(model)
    rebuild = model.rebuild
    taken = open_images(DataSource(folders, restrict_classes=True), model)
    assert gathered(taken)[1].tolist() == [0, 0, 1, 2]
    assert (taken.label_space.name, taken.label_space.n_classes) == ("imagenet-3", 3)
    assert torch.equal(model(images), expected)
    assert model.info.n_classes == 3
    assert state_digest(model) != whole
    assert rebuild is not None
    assert model.rebuild is not None
    again = pickle.loads(pickle.dumps(model.rebuild))()  # as a worker makes it
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images), expected)
    result = spectral_importance(model, taken, PROTOCOL)
    by_hand = spectral_importance(
        lambda x: rebuild()(x)[:, [5, 17, 999]], (images, torch.tensor([0, 0, 1, 2])), PROTOCOL
    )
    assert (result.per_image == by_hand.per_image).all()
    open_images(DataSource(folders, restrict_classes=True), model)  # the same once more
    with pytest.raises(InputError, match="restricted to 3 other classes already"):
        model.restrict([1, 2])


@pytest.mark.parametrize(
    ("classes", "message"),
    [([4], "two or more"), ([4, 2], r"ascending, got \[4, 2\]"), ([4, 1000], "below 1000")],
)
def test_restrictions_that_make_no_sense(
    model: Classifier, classes: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.restrict(classes)


def test_corrupted_images_are_found_by_the_label_of_the_data_set(
    folders: Path, model: Classifier, tmp_path: Path
) -> None:
    pytest.importorskip("scipy")
    rows = []
    for file in sorted(folders.rglob("*.png")):
        rows.append(f"{file},{WNIDS.index(file.parent.name)}")
        for corruption in ("fog", "contrast"):
            for severity in range(1, 6):
                to = tmp_path / "c" / corruption / str(severity) / file.parent.name / file.name
                save(to, picture(32, seed=severity))
    for name in ("0.png", "1.png", "2.png", "3.png"):  # ids without the class folder
        (tmp_path / "list").mkdir(exist_ok=True)
        next(folders.rglob(name)).rename(tmp_path / "list" / name)
    listed = [f"{Path(row.split(',')[0]).name},{row.split(',')[1]}" for row in rows]
    (tmp_path / "list" / "l.csv").write_text("\n".join(["path,label", *listed]))
    source = DataSource(tmp_path / "list" / "l.csv", labels="imagenet", restrict_classes=True)
    pairs = explain_plan(source, model, corruptions=str(tmp_path / "c"), severities=(2,))
    labels = {name: int(y) for _, _, ys, ids in pairs for name, y in zip(ids, ys, strict=True)}
    assert labels == {"0.png": 0, "1.png": 0, "2.png": 1, "3.png": 2}


def test_a_model_of_fewer_classes_has_them_in_order(folders: Path, caplog: Any) -> None:
    model = load_model(f"python:{__name__}:few")
    taken = open_images(DataSource(folders), model)
    assert gathered(taken)[1].tolist() == [0, 0, 1, 2]
    assert taken.label_space.name == "rank"
    assert "3 outputs, and the images are of 3 of ImageNet's classes" in caplog.text


def test_two_hundred_classes_are_said(tmp_path: Path, model: Classifier, caplog: Any) -> None:
    one = save(tmp_path / "one.png", picture(32))
    for wnid in WNIDS[::5]:
        (tmp_path / "r" / wnid).mkdir(parents=True)
        (tmp_path / "r" / wnid / "a.png").symlink_to(one)
    taken = open_images(DataSource(tmp_path / "r"), model)
    assert [record.label for record in taken.records] == list(range(0, 1000, 5))
    assert "papers on ImageNet-R and ImageNet-A score them among these outputs only" in caplog.text


def test_predictions_as_labels(flat: Path, model: Classifier) -> None:
    taken = open_images(DataSource(flat, labels="predicted"), model)
    images, labels, ids = gathered(taken)
    assert ids == [f"{k}.png" for k in range(6)]
    assert torch.equal(labels, model(images).argmax(dim=1))
    assert (taken.label_space.name, taken.label_space.n_classes) == ("predicted", 1000)
    with pytest.raises(InputError, match="does not go with"):
        open_images(DataSource(flat, labels="predicted", restrict_classes=True), model)


@pytest.mark.parametrize("crop", [32, 128])
def test_errors_of_predictions_are_changes(flat: Path, crop: int) -> None:
    pytest.importorskip("cv2")
    # At 128 pixels the corruptions' geometry (256, 224) is another than the model's own.
    spec = f"python:{__name__}:thousand"
    model = open_model(spec, device="cpu", resize=crop + 8, crop=crop)
    source = DataSource(flat, labels="predicted")
    pairs = explain_plan(source, model, corruptions="motion_blur", severities=(5,))
    changed = []
    for clean, noisy, labels, _ in pairs:
        assert (model(clean).argmax(1) == labels).all()
        changed += [(model(one).argmax(1) != labels).float() for one in noisy.values()]
    assert torch.cat(changed).mean() > 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line; returns its exit code."""
    from iaside_plugins.cli import command

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["iaside", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return int(end.value.code or 0)

    return run


def test_the_command_line_says_what_the_labels_are(
    flat: Path, tmp_path: Path, run: Callable[..., int], capsys: Any
) -> None:
    out, given = tmp_path / "o.json", ("--data", flat, "--labels", "predicted")
    spec = f"python:{__name__}:thousand"
    assert run("profile", spec, *given, "--n-bands", 3, "--json", out) == 0
    text = capsys.readouterr().out
    assert text.index("the model's own predictions") < text.index("band ")
    assert json.loads(out.read_text())["label_space"] == "predicted"
    assert run("evaluate", spec, *given, "--out", tmp_path / "e.json") == 2
    assert "--labels predicted is for profile, explain, heatmap" in capsys.readouterr().err


def test_what_is_kept_says_what_the_labels_are(
    flat: Path, tmp_path: Path, run: Callable[..., int], capsys: Any
) -> None:
    """Also an unfinished run; files of earlier versions do not say it, and load."""
    given = (f"python:{__name__}:thousand", "--data", flat, "--labels", "predicted", "--n-bands", 3)
    result, split, folder = tmp_path / "r.npz", tmp_path / "s.npz", tmp_path / "unfinished"
    assert run("profile", *given, "--save", result, "--resume", folder) == 0
    assert "accuracy on" not in capsys.readouterr().out
    fog = ("--corruptions", "gaussian_noise", "--severities", 5, "--repair", 0)
    assert run("explain", *given, *fog, "--save", split) == 0
    capsys.readouterr()
    for source in (result, folder, split):
        assert run("show", source, "--json", out := tmp_path / "o.json") == 0
        text = capsys.readouterr().out
        assert text.startswith("labels: the model's own predictions")
        assert "accuracy on" not in text
        assert json.loads(out.read_text())["label_space"] == "predicted"
    for source in (result, split):
        with np.load(source) as file:
            arrays = dict(file)
        head = json.loads(str(arrays.pop("head")))
        del head["label_space"]
        np.savez(source, head=np.array(json.dumps(head)), **arrays)
        assert run("show", source) == 0
        assert "predictions" not in capsys.readouterr().out


def test_a_model_that_names_its_outputs_has_the_labels_in_its_order(
    tmp_path: Path, model: Classifier, caplog: Any
) -> None:
    """Also where the names are those of CIFAR-10, whose order the model may not have."""
    for name in ("cat", "dog"):
        save(tmp_path / "data" / name / "0.png", picture(32, seed=len(name)))
    source = DataSource(tmp_path / "data")
    assert [r.label for r in open_images(source, model).records] == [3, 5]  # CIFAR-10's
    model.class_names = ("dog", "cat", "emu")
    images = open_images(source, model)
    assert [record.label for record in images.records] == [1, 0]
    assert images.label_space.names == ("dog", "cat", "emu")
    assert "names its outputs" in caplog.text
    model.class_names = ("one", "two")
    assert [r.label for r in open_images(source, model).records] == [3, 5]
    (tmp_path / "data" / "emu").mkdir()
    save(tmp_path / "data" / "emu" / "0.png", picture(32))
    model.class_names = ("dog", "cat", "emu")
    assert [record.label for record in open_images(source, model).records] == [1, 0, 2]


def test_other_names_of_classes_than_the_models_are_said(
    tmp_path: Path, model: Classifier, caplog: Any
) -> None:
    """Data that bring names of their own: nobody knows whether both count the classes alike."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = save(tmp_path / "0.png", picture(32)).read_bytes()
    label = {"_type": "ClassLabel", "names": ["Cat", "Dog", "Emu"]}
    stored = json.dumps({"info": {"features": {"label": label}}})
    table = arrow.table({"image": [data], "label": [2]})
    file = tmp_path / "a.parquet"
    parquet.write_table(table.replace_schema_metadata({"huggingface": stored}), file)
    model.class_names = ("emu", "dog", "cat")
    assert [one.label for one in open_images(DataSource(file), model).records] == [2]
    said = "in the order of the data (Cat, ...); thousand names its outputs otherwise (emu, ...)"
    assert said in caplog.text
