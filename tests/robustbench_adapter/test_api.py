"""`benchmark` and `evaluate`: RobustBench's signature, bad input before work, files, no residue."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from robustbench_layout import Pooled, fitted, make_cifar, make_folder
from tiny_model import WATCH
from torch import Tensor, nn

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.imagenet.cifar import read_cifar
from iaside_plugins.adapters.imagenet.stream import ImageStream
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.robustbench_preprocessing import GeometryReader
from iaside_plugins.adapters.robustbench_adapter.api import benchmark, cost, evaluate
from iaside_plugins.adapters.robustbench_adapter.request import Request, prepared
from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.exports import export
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.errors import InputError

N = 12
HOST = importlib.util.find_spec("robustbench") is not None
pytestmark = pytest.mark.usefixtures("elsewhere")
needs_host = pytest.mark.skipif(not HOST, reason="RobustBench is not installed")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cifar(tmp_path_factory.mktemp("cifar"), N)


@pytest.fixture
def net(cifar: Path) -> Pooled:
    pixels, labels = read_cifar(cifar, "cifar10") or (None, None)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    labels = torch.from_numpy(labels.copy())
    labels[0] = 5  # one image it gets wrong
    return fitted(images, labels, 10, brittle=1.0)


def options(cifar: Path, **given: Any) -> dict[str, Any]:
    return {
        "n_examples": N,
        "data_dir": cifar,
        "show_progress": False,
        "n_spectral": 4,
        "n_bands": 4,
        "batch_size": 5,
        **given,
    }


ATTACK = {"eps": 3 / 255, "attacks": ["apgd-ce"]}


@needs_host
def test_the_signature_is_robustbenchs() -> None:
    from robustbench_host import evaluation

    theirs = list(inspect.signature(evaluation.benchmark).parameters.values())
    ours = list(inspect.signature(benchmark).parameters.values())
    for own, other in zip(ours, theirs, strict=False):
        assert (own.name, own.kind) == (other.name, other.kind)
        assert own.default == getattr(other.default, "value", other.default)
    added = ours[len(theirs) :]
    assert added
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in added)
    fields = list(Request.__dataclass_fields__.values())
    assert [f.name for f in fields] == [p.name for p in ours]
    assert [f.default for f in fields[1:]] == [p.default for p in ours[1:]]


@needs_host
def test_robustbenchs_own_names_come_from_here() -> None:
    """In a process that has not imported RobustBench, which does not import as published."""
    code = """
from iaside_plugins.adapters.robustbench_adapter import BenchmarkDataset, ThreatModel, load_model
assert ThreatModel("Linf") is ThreatModel.Linf and BenchmarkDataset("cifar10")
assert load_model.__module__ == "robustbench.utils"
import iaside_plugins.adapters.robustbench_adapter as adapter
assert not hasattr(adapter, "load_models")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_corruptions_to_entry_json_table_and_bundle(net: Pooled, cifar: Path) -> None:
    given = options(
        cifar,
        threat_model="corruptions",
        to_disk=True,
        model_name="mine",
        bundle="bundle",
        entry_path="entry.json",
    )
    clean, robust = benchmark(net, **given)
    assert clean == 11 / 12
    entry = parse_entry(Path("entry.json").read_bytes(), "entry.json")
    assert check_entry(entry, entry.entry_id) == []
    assert entry.entry_id.endswith("--robustbench-corruptions")
    assert entry.corruption is not None
    assert entry.corruption.mce is None  # CIFAR has no AlexNet row
    errors = [condition.error.value for condition in entry.corruption.conditions]
    assert robust == pytest.approx(1 - np.mean(errors), abs=1e-12)
    assert [c.corruption for c in entry.corruption.conditions][::5][:3] == [
        "shot_noise",
        "motion_blur",
        "snow",
    ]
    written = json.loads(Path("model_info/cifar10/corruptions/mine.json").read_text())
    assert written["clean_acc"] == "91.67"
    assert written["corruptions_acc"] == str(round(robust * 100, 2))
    assert written["corruptions_mce"] is None
    assert written["eps"] is None  # D12
    run = written["iaside_corruptions"]  # D11: n, intervals, seed, versions
    assert run["n_images"] == N
    assert run["seed"] == 0
    assert run["clean_accuracy_interval"][0] < 11 / 12 < run["clean_accuracy_interval"][1]
    assert "torch" in run["provenance"]["versions"]
    assert run["spectral"]["signed_score"] == entry.spectral.signed_score
    assert run["protocol"]["n_bands"] == 4
    assert run["weights_sha256"] == entry.model.weights_sha256
    exported = json.loads(export(entry, "robustbench"))  # the same from the entry alone
    run.pop("batch_size")  # which an entry says of attacks only
    assert exported == written
    copied = Path("bundle/model_info/cifar10/corruptions")
    table = copied / "unaggregated_results.csv"
    assert table.read_bytes() == Path("model_info/cifar10/corruptions", table.name).read_bytes()
    text = Path("bundle/issue.md").read_text()
    assert "- Model id: mine" in text
    assert "mCE: none" in text
    assert not Path("bundle/adversarial.pt").exists()
    assert len(Path("bundle/image_ids.txt").read_text().split()) == N
    assert not list(Path("../cache").rglob("*.npz"))  # complete: nothing is kept


@needs_host
def test_an_attack_to_entry_and_external_tensor(net: Pooled, cifar: Path) -> None:
    given = options(cifar, model_name="mine", bundle="bundle", entry_path="entry.json", **ATTACK)
    clean, robust = benchmark(net, **given)
    images = torch.load("bundle/adversarial.pt", weights_only=True)
    with prepared(Request(net, N, data_dir=cifar, **ATTACK)) as ready:
        x, y, _ = next(iter(ready.images.clean(None)))
    assert images.dtype == torch.float32
    assert images.shape == (N, 3, 32, 32)
    with torch.no_grad():  # whoever loads the tensor finds the same figure
        assert float((net(images).argmax(1) == y).float().mean()) == pytest.approx(robust)
    assert float((images - x).abs().max()) == pytest.approx(3 / 255, abs=1e-6)
    assert 0 < robust < clean
    entry = parse_entry(Path("entry.json").read_bytes(), "entry.json")
    assert check_entry(entry, entry.entry_id) == []
    assert entry.benchmark is not None
    assert entry.adversarial is not None
    assert [a.attack for a in entry.benchmark.after_attack] == ["clean", "apgd-ce"]
    assert entry.benchmark.after_attack[-1].accuracy == entry.adversarial.attacks[0].accuracy.value
    written = json.loads(Path("bundle/model_info/cifar10/Linf/mine.json").read_text())
    assert json.loads(export(entry, "robustbench")) == written
    assert "eps 3/255" in Path("bundle/issue.md").read_text()
    assert "submitter's choice" in Path("bundle/issue.md").read_text()
    written = json.loads(Path("bundle/model_info/cifar10/Linf/mine.json").read_text())
    assert written["autoattack_acc"] is None  # the attacks were not AutoAttack's standard ones
    assert written["eps"] is None
    assert written["iaside_Linf_custom"]["attack_order"] == ["apgd-ce"]
    assert written["iaside_Linf_custom"]["eps"] == [3 / 255]
    assert written["iaside_Linf_custom"]["robust_accuracy"] == robust
    assert not Path("model_info").exists()  # D5: to_disk is off


class Own(nn.Module):
    """An integer of the caller's, outside the state, the text and the constants of the module."""

    def __init__(self, net: Pooled, k: int) -> None:
        super().__init__()
        self.net, self.k = net, k

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - 0.4 * self.k * (x > 0.5))


@pytest.mark.parametrize("name", ["resume", "aa_state_path"])
def test_a_kept_run_is_not_another_models(
    net: Pooled, cifar: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(cifar, threat_model="corruptions", spectral=False)
    if name == "aa_state_path":
        if not HOST:
            pytest.skip("RobustBench is not installed")
        given = options(cifar, spectral=False, **ATTACK)
    first = benchmark(Own(net, 0).eval(), **given, **{name: "kept"})
    assert benchmark(Own(net, 0).eval(), **given, **{name: "kept"}) == first
    with pytest.raises(InputError, match="kept holds the work of another model"):
        benchmark(Own(net, 1).eval(), **given, **{name: "kept"})
    if name == "aa_state_path":  # other weights have a folder of their own in it
        with torch.no_grad():
            net.head.bias[0] += 2.0
        benchmark(Own(net, 1).eval(), **given, **{name: "kept"})
    # In the cache, where a stopped run left it, the other model starts anew.
    from iaside_plugins.adapters.robustbench_adapter import api as robustbench_adapter

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(robustbench_adapter, "_write", stopped)
        with pytest.raises(KeyboardInterrupt):
            benchmark(Own(net, 0).eval(), **given)
    other = benchmark(Own(net, 1).eval(), **given)
    assert other == benchmark(Own(net, 1).eval(), **given, resume="new")
    if name == "resume":
        assert other != first


@needs_host
def test_a_folder_of_another_protocol_is_refused_before_the_attack(
    net: Pooled, cifar: Path
) -> None:
    benchmark(net, **options(cifar, resume="kept", attacks=["apgd-ce"], eps=1 / 255))
    seen = net.rows
    with pytest.raises(InputError, match=r"spectral holds another run: protocol n_bands was 4"):
        benchmark(net, **options(cifar, resume="kept", n_bands=5, **ATTACK))
    assert net.rows - seen < 100


@needs_host
def test_a_resumed_attack_is_not_told_by_former_outcomes(
    net: Pooled, cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the library finds other images, and so another accuracy."""
    from iaside_plugins.adapters.robustbench_adapter import autoattack

    given = options(cifar, resume="kept", spectral=False, **ATTACK)
    with monkeypatch.context() as former:
        former.setattr(autoattack.metadata, "version", lambda _: "0.0")
        former.setattr(
            autoattack._AttackRun,
            "_run",
            lambda _, __, x, y: (np.zeros(len(y), bool), np.zeros((0, *x.shape[1:]), np.float32)),
        )
        assert benchmark(net, **given) == (11 / 12, 11 / 12)  # it fooled none
    clean, robust = benchmark(net, **given)
    assert robust < clean
    assert benchmark(net, **{**given, "resume": "new"}) == (clean, robust)


@needs_host
def test_an_accuracy_that_is_not_the_last_attacks_is_refused(
    net: Pooled, cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iaside_plugins.adapters.robustbench_adapter.autoattack import AdversarialImages

    monkeypatch.setattr(AdversarialImages, "batch", lambda _, images, labels: images)
    with pytest.raises(InputError, match="not the same every time"):
        benchmark(net, **options(cifar, spectral=False, **ATTACK))


@pytest.mark.parametrize("few", ["n_spectral", "n_examples"])
def test_errors_are_not_split_on_one_image(net: Pooled, cifar: Path, few: str) -> None:
    given = options(cifar, threat_model="corruptions", explain=True, entry_path="e.json")
    with pytest.raises(InputError, match="on at least 2 images: see n_spectral and n_examples"):
        benchmark(net, **{**given, few: 1})
    assert net.rows == 0


@needs_host
def test_a_profile_under_each_condition_is_that_of_its_images(net: Pooled, cifar: Path) -> None:
    protocol = Protocol(n_bands=4)
    found = evaluate(
        net,
        **options(
            cifar,
            n_spectral=None,
            **{**ATTACK, "eps": [3 / 255, 1 / 255]},
            bundle="b",
            model_name="m",
        ),
    )
    profiles = found["benchmark"]["profiles"]
    assert [p["condition"] for p in profiles] == [
        f"autoattack_custom_apgd-ce Linf {eps}/255" for eps in (3, 1)
    ]
    images = torch.load("b/adversarial.pt", weights_only=True)  # of the first budget
    with prepared(Request(net, N, data_dir=cifar, **ATTACK)) as ready:
        x, y, _ = next(iter(ready.images.clean(None)))
    for expected, data in ((found["spectral"], x), (profiles[0], images)):
        own = spectral_importance(net, (data, y), protocol)
        np.testing.assert_allclose(expected["shapley_values"], own.shapley_values, atol=1e-6)
    assert profiles[0]["shapley_values"] != found["spectral"]["shapley_values"]
    assert profiles[0]["band_edges"] == found["spectral"]["band_edges"]


def test_corrupted_profiles_take_every_cell_once(net: Pooled, cifar: Path) -> None:
    from iaside_plugins.adapters.robustbench_adapter.run import Cycled
    from iaside_plugins.entry.build import CYCLED

    given = options(cifar, threat_model="corruptions", n_spectral=None)
    with prepared(Request(net, **given)) as ready:
        cycled = Cycled(ready, ready.spectral_part)
        cells = [cell for cell, _ in cycled.parts]
        assert len(cells) == len(set(cells)) == N
        images = [image for batch in cycled for image in batch[0]]
        names = [name for batch in cycled for name in batch[2]]
        for (name, severity), (k,), image in zip(*zip(*cycled.parts), images, strict=True):  # noqa: B905
            expected, _, _ = next(iter(ready.images.cell(name, severity, [k])))
            assert torch.equal(image, expected[0])
        assert sorted(names) == sorted(ready.images.ids)
    profile = evaluate(net, **given)["benchmark"]["profiles"][0]
    assert profile["condition"] == CYCLED
    assert profile["n_images"] == N


def test_a_model_of_another_data_set_is_refused(
    cifar: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the two numbers are 0, or those of other classes."""
    given = options(cifar, threat_model="corruptions", spectral=False)
    with pytest.raises(InputError, match="thousand has 1000 outputs, and cifar10 10 classes"):
        benchmark("python:tiny_model:thousand", **given)
    model = load_model("python:tiny_model:network")
    model.info = dataclasses.replace(model.info, dataset="imagenet")
    with pytest.raises(InputError, match="a model of imagenet, and dataset='cifar10'"):
        benchmark(model, **given)
    assert caplog.text == ""
    benchmark(Pooled(12).eval(), **given)
    assert "Pooled has 12 outputs, and cifar10 10 classes" in caplog.text


def test_an_entry_path_of_no_json_is_a_folder(net: Pooled, cifar: Path) -> None:
    given = options(cifar, threat_model="corruptions", n_spectral=1, profiles=False)
    for _ in range(2):  # the folder is there the second time
        entry = evaluate(net, **given, entry_path="new/entries")
        (file,) = Path("new/entries").iterdir()
        assert file.name == f"{entry['entry_id']}.json"


@pytest.mark.parametrize("name", ["resume", "bundle", "cache", "aa_state_path", "entry_path"])
def test_folders_that_cannot_be_written_are_named_as_given(
    net: Pooled, cifar: Path, name: str
) -> None:
    given = options(cifar, threat_model="corruptions", model_name="net")
    for path in ("/proc/here", "/proc/version"):
        with pytest.raises(InputError, match=f"{path}(:|$| is a file)") as caught:
            benchmark(net, **given, **{name: path})
        assert "probe" not in str(caught.value)
    assert net.rows == 0


def test_without_a_spectrum_the_json_still_says_which_run_it_was(net: Pooled, cifar: Path) -> None:
    given = options(cifar, threat_model="corruptions", to_disk=True, model_name="mine")
    file = Path("model_info/cifar10/corruptions/mine.json")
    benchmark(net, **given)
    whole = json.loads(file.read_text())["iaside_corruptions"]
    benchmark(net, **given, spectral=False)
    run = json.loads(file.read_text())["iaside_corruptions"]
    same = ("weights_sha256", "image_ids_sha256", "seed", "n_images", "corrupted_images")
    assert {name: run[name] for name in same} == {name: whole[name] for name in same}
    assert "spectral" not in run
    with torch.no_grad():
        net.head.bias += 1.0 * torch.arange(10)
    benchmark(net, **{**given, "threat_model": "corruptions"}, spectral=False)
    other = json.loads(file.read_text())
    assert other["iaside_corruptions"]["weights_sha256"] != run["weights_sha256"]


@pytest.mark.parametrize("file", [None, "entry.json"])
def test_robustbenchs_lines_are_printed_and_the_report_unless_a_file_holds_it(
    net: Pooled, cifar: Path, capsys: pytest.CaptureFixture[str], file: str | None
) -> None:
    given = options(cifar, threat_model="corruptions", explain=True, entry_path=file)
    clean, robust = benchmark(net, **{**given, "show_progress": file is not None})
    lines = capsys.readouterr().out.splitlines()
    if file is not None:
        assert lines.pop(0).startswith("cost: clean 12 passes")
    assert lines[:2] == [f"Clean accuracy: {clean:.2%}", f"Adversarial accuracy: {robust:.2%}"]
    report = "\n".join(lines[2:])
    if file is not None:
        assert report == ""
        return
    for part in ("spectral importance: 4 images", "split over the bands", "entry_path=..."):
        assert part in report
    benchmark(net, **{**given, "explain": False, "spectral": False})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_nothing_is_left(
    net: Pooled, cifar: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """D5 and D10; and a model in training mode is put back."""
    net.train()
    net.pool.eval()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    expected = benchmark(net, **options(cifar, threat_model="corruptions"))
    assert capsys.readouterr().err == ""
    assert list(Path().iterdir()) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert net.head.training
    assert not net.pool.training
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    net.eval()
    assert benchmark(net, **options(cifar, threat_model="corruptions", spectral=False)) == expected


def test_only_the_images_asked_for_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RobustBench decodes 800 for 100, all in one worker and in memory (D1, D2)."""
    folder = make_folder(tmp_path / "data", ("airplane", "bird", "cat"), 4)
    decoded: list[str] = []
    own = GeometryReader.__call__

    def counted(self: GeometryReader, record: Any) -> Any:
        decoded.append(record.image_id)
        return own(self, record)

    monkeypatch.setattr(GeometryReader, "__call__", counted)
    request = Request(Pooled(10), 7, "cifar10", "Linf", eps=0.1, data_dir=folder, batch_size=2)
    with prepared(request) as ready:
        assert decoded == []
        stream = iter(ready.images.clean(None))
        next(stream)
        assert len(decoded) == 2
        assert sum(len(batch[0]) for batch in stream) == 5
        assert decoded == list(ready.images.ids)
        assert isinstance(ready.images.clean(None), ImageStream)


@pytest.mark.usefixtures("untimed")
def test_the_cost_is_what_the_run_costs(net: Pooled, cifar: Path) -> None:
    given = options(cifar, threat_model="corruptions")
    expected = cost(net, **given)
    assert expected.passes == {"clean": 12, "corruptions": 900, "spectral": 2 * 4 * 15}
    assert "900 passes" in str(expected)
    net.rows = 0
    evaluate(net, **given)
    # The first batch, and one black image for each of the two importances.
    assert net.rows == sum(expected.passes.values()) + 5 + 2


@needs_host
@pytest.mark.usefixtures("untimed")
def test_the_cost_of_an_attack_is_an_upper_bound(net: Pooled, cifar: Path) -> None:
    given = options(
        cifar,
        eps=1e-4,
        attacks=["apgd-ce", "apgd-t", "fab-t", "square"],
        n_examples=4,
        spectral=False,
    )
    bound = cost(net, **given).passes["attack"]
    net.rows = 0
    assert benchmark(net, **given) == (3 / 4, 3 / 4)  # so small a budget that none is fooled
    assert 0.5 * bound * 3 / 4 < net.rows <= bound


REFUSED = {
    "no eps": ({}, "needs eps=..."),
    "eps with corruptions": ({"threat_model": "corruptions", "eps": 0.1}, "leave it out"),
    "n too large": ({"n_examples": 13, **ATTACK}, "n_examples=13, and there are 12"),
    "the default n": ({"n_examples": 10000, **ATTACK}, "n_examples=10000, and there are 12"),
    "n below 1": ({"n_examples": 0, **ATTACK}, "at least 1, got 0"),
    "data set": ({"dataset": "mnist", **ATTACK}, "cifar10, cifar100, imagenet, got 'mnist'"),
    "threat model": ({"threat_model": "L1", "eps": 1.0}, "corruptions_3d, got 'L1'"),
    "3D of CIFAR": ({"threat_model": "corruptions_3d"}, "of imagenet only, got dataset 'cifar10'"),
    "no name": ({"to_disk": True, **ATTACK}, "needs model_name"),
    "bundle, no name": ({"bundle": "b", **ATTACK}, "needs model_name"),
    "entry, no spectrum": ({"spectral": False, "entry_path": "e", **ATTACK}, "spectral=False"),
    "device": ({"device": "cuda:99", **ATTACK}, "CUDA GPUs"),
    "devices": ({"device": ["cpu", "cpu"], **ATTACK}, "must not be a list"),
    "models": ({"model": [1], **ATTACK}, "got list"),
    "no spectral images": ({"n_spectral": 0, **ATTACK}, "n_spectral"),
    "too many bands": ({"n_bands": 20, **ATTACK}, "n_bands=20 would cost"),
    "small images": (
        {"n_bands": None, "protocol": Protocol(n_bands=20, estimator="permutation"), **ATTACK},
        "32 x 32",
    ),
    "precision": ({"precision": "int8", **ATTACK}, "precision"),
    "batch size": ({"batch_size": 0, **ATTACK}, "batch_size"),
    "no images": ({"data_dir": "nowhere", **ATTACK}, "nowhere"),
    "no corrupted images": (
        {"threat_model": "corruptions", "corruptions_data_dir": "."},
        "has no shot_noise.npy",
    ),
    "unwritable": ({"entry_path": "/proc/e.json", **ATTACK}, "cannot write"),
    "a state file": ({"aa_state_path": __file__, **ATTACK}, "give a folder"),
    "reference with attack": ({"reference_errors": "x", **ATTACK}, "are for corruptions"),
    "reference of ImageNet": (
        {"threat_model": "corruptions", "reference_errors": "alexnet_robustbench_5k"},
        "stands unnormalised",
    ),
    "an mCE of CIFAR": (
        {"threat_model": "corruptions", "reference_errors": {"fog": [0.5] * 5}},
        "an mCE is of ima",
    ),
    "preprocessing": ({"preprocessing": "Res255", **ATTACK}, "Res256Crop224"),
    "eps in words": ({**ATTACK, "eps": "8/255"}, "got '8/255'"),
    "eps of 0..255": ({**ATTACK, "eps": 8}, "got [8.0]"),
    "a folder in the name": ({"model_name": "a/b", **ATTACK}, "name of a file, got 'a/b'"),
    "a path as name": ({"model_name": "/home/me/net", **ATTACK}, "name of a file"),
    "seed below 0": ({"seed": -1, **ATTACK}, "seed must be an integer of at least 0"),
    "seed in words": ({"seed": "a", **ATTACK}, "seed must be an integer"),
    "seed too large": ({"seed": 10**23, **ATTACK}, "at most 4294967295, got 1000"),
    "preprocessing list": ({"preprocessing": ["x"], **ATTACK}, "or None, got ['x']"),
    "name of no text": ({"model_name": 3, **ATTACK}, "model_name: expected text or None, got 3"),
    "name of two lines": ({"model_name": "a\nb", **ATTACK}, "must be the name of a file"),
    "no data": ({"data_dir": None, **ATTACK}, "data_dir: expected a path, got None"),
    "data of no path": ({"data_dir": 3, **ATTACK}, "data_dir: expected a path, got 3"),
    "protocol in words": ({"n_bands": None, "protocol": "reference", **ATTACK}, "got 'reference'"),
    "no bands": ({"n_bands": 0, **ATTACK}, "n_bands"),
    "true eps": ({**ATTACK, "eps": True}, "got True"),
    "empty eps": ({**ATTACK, "eps": []}, "got none"),
    "attack in words": ({**ATTACK, "attacks": "apgd-ce"}, "expected a list of names such as"),
    "flag in words": ({"to_disk": "False", **ATTACK}, "to_disk: expected True or False"),
    "precisions": ({"precision": ["float32"], **ATTACK}, "precision: expected text"),
    "workers": ({"workers": -1, **ATTACK}, "workers must be"),
    "images of another shape": (
        {"model": nn.Sequential(nn.Flatten(), nn.Linear(7, 10)).eval(), "eps": 0.1},
        "the model failed on images of shape (5, 3, 32, 32): mat1 and mat2",
    ),
    "state of RobustBench": (
        {**ATTACK, "aa_state_path": Path("aa_state.json")},
        "aa_state_path: aa_state.json is a file, as RobustBench takes it",
    ),
    "unknown attack": ({"eps": 0.1, "attacks": ["pgd"]}, "got ['pgd']"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_before_any_work(net: Pooled, cifar: Path, case: str) -> None:
    given, fragment = REFUSED[case]
    if "attacks" in given and not HOST:
        pytest.skip("RobustBench is not installed")
    given = {**options(cifar), **given}
    model = given.pop("model", net)
    with pytest.raises(InputError) as caught:
        benchmark(model, **given)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
    assert net.rows == 0
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["net.json", "unaggregated_results.csv"])
def test_files_of_another_kind_are_found_before_any_work(
    net: Pooled, cifar: Path, name: str
) -> None:
    file = Path("model_info/cifar10/corruptions") / name
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    given = options(cifar, threat_model="corruptions", to_disk=True, model_name="net")
    with pytest.raises(InputError, match=name):
        benchmark(net, **given)
    assert net.rows == 0
    assert file.read_text() == "[]"


@needs_host
def test_numbers_of_numpy_are_budgets(net: Pooled, cifar: Path) -> None:
    given = options(cifar, **{**ATTACK, "eps": np.float32(0.01)})
    with prepared(Request(net, **given)) as ready:
        assert ready.spec is not None
        assert ready.spec.epsilons == (pytest.approx(0.01),)


def test_integers_of_numpy_are_counts(net: Pooled, cifar: Path) -> None:
    given = options(cifar, threat_model="corruptions", seed=0, n_examples=3)
    names = ("n_examples", "batch_size", "n_spectral", "seed")
    with prepared(Request(net, **{**given, **{k: np.int64(given[k]) for k in names}})) as ready:
        assert {type(getattr(ready.request, name)) for name in names} == {int}
        assert ready.request == Request(net, **given)


def test_a_list_of_budgets_is_for_evaluate(net: Pooled, cifar: Path) -> None:
    with pytest.raises(InputError, match="takes one eps"):
        benchmark(net, **options(cifar, eps=[0.1, 0.2]))
    with pytest.raises(InputError, match="unknown option 'epsilon'"):
        evaluate(net, **options(cifar, epsilon=0.1))


@pytest.mark.usefixtures("untimed")
def test_a_run_that_failed_goes_on(cifar: Path, tmp_path: Path, monkeypatch) -> None:
    """RobustBench loses all 75 cells (D7)."""
    monkeypatch.setattr(WATCH, "rows", 0)
    given = options(cifar, threat_model="corruptions", resume=tmp_path / "kept")
    monkeypatch.setattr(WATCH, "_interrupt_after", 500)
    with pytest.raises(KeyboardInterrupt):
        benchmark("python:tiny_model:network", **given)
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    WATCH.rows = 0
    resumed = benchmark("python:tiny_model:network", **given)
    rest = WATCH.rows
    WATCH.rows = 0
    given["resume"] = tmp_path / "new"
    assert benchmark("python:tiny_model:network", **given) == resumed
    assert 500 + rest <= WATCH.rows + 5 + 5 + 1  # a batch, the first again, the black image


def test_clean_images_of_any_folder_and_any_part(tmp_path: Path, net: Pooled) -> None:
    folder = make_folder(tmp_path / "data", ("cat", "airplane"), 3)
    manifest = tmp_path / "images.csv"
    rows = [
        f"data/{name}/{k}.png,{label}"
        for name, label in (("cat", 3), ("airplane", 0))
        for k in range(3)
    ]
    manifest.write_text("\n".join(["path,label", *rows]))
    for source, ids in ((folder, "airplane/0.png"), (manifest, "data/cat/0.png")):
        with prepared(Request(net, 6, eps=0.1, data_dir=source)) as ready:
            _, labels, names = next(iter(ready.images.clean(None)))
            assert names[0] == ids
            assert {int(y) for y in labels} == {0, 3}  # by name, not by the rank of the folder
            part = next(iter(ready.images.clean([1, 4])))[2]
            assert part == [names[1], names[4]]
            assert ready.images.selection == "all images there are"
        with prepared(Request(net, 4, eps=0.1, data_dir=source, seed=1)) as ready:
            assert ready.images.selection == "a random selection of those there are, seed 1"
