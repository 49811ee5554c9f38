"""Each extra names all that its part of the package needs: nothing else can be imported here.

A child process runs the smallest real call of an extra while every distribution that the extra
does not install, directly or through its requirements, is hidden. The requirements of the package
are read from pyproject.toml, those of others from what is installed. The children are forks of one
process that has imported the package, while all was hidden that not every installation has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from image_files import make_tree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from robustbench_layout import make_cifar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRIES = sorted((ROOT / "leaderboard" / "entries").rglob("*.json"))[:2]
PACKAGES = cache(metadata.packages_distributions)  # of every top-level module, read but once
HIDE = """
import sys

class Visible:
    "A finder that knows no module of a hidden distribution."

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        spec = self.finder.find_spec(name, path, target)
        if name.partition(".")[0] in {hidden!r} and "thirdparty_files" not in str(spec):
            return None  # but what a package of the extra carries with it (Ray: psutil)
        return spec

    def find_distributions(self, context):
        "Return what `importlib.metadata` finds, by which some ask whether a package is there."
        found = getattr(self.finder, "find_distributions", lambda context: ())(context)
        return (one for one in found if one.metadata["Name"] not in {distributions!r})

sys.meta_path[:] = map(Visible, sys.meta_path)
"""
FORKS = """
import json, os, signal
import iaside_plugins.cli

for line in sys.stdin:
    code, folder = json.loads(line)
    if pid := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    signal.alarm(120)
    os.chdir(folder)
    os.environ["IASIDE_CACHE"] = os.path.join(folder, "cache")
    said = os.open("said", os.O_CREAT | os.O_WRONLY)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.meta_path[:] = [getattr(one, "finder", one) for one in sys.meta_path]
    exec(code)
    break
"""
COMMAND = """
import sys
from iaside_plugins.cli import main

for line in {lines!r}:
    sys.argv = ["iaside", *line]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""
NET = """
import torch
from torch import nn

torch.manual_seed(0)
images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)).eval()
"""
CODE = {
    "remote": """
from pathlib import PurePath

from iaside_plugins.adapters.imagenet.remote import local_or_remote

assert isinstance(local_or_remote("s3://bucket/val"), PurePath)
""",
    "": NET
    + """
from iaside_plugins import Protocol, spectral_importance

assert spectral_importance(net, (images, labels), Protocol(n_bands=3)).n_images == 4
""",
    "captum": NET
    + """
from iaside_plugins.adapters.captum_adapter import SpectralShapley

assert SpectralShapley(net).attribute(images, target=labels, n_bands=3).shape == (4, 3)
""",
    "foolbox": NET
    + """
import foolbox
from iaside_plugins.adapters.foolbox_adapter import SpectralEvaluator, parse_attacks

fmodel = foolbox.PyTorchModel(net, bounds=(0, 1))
assert SpectralEvaluator(n_bands=3)(fmodel, images, labels).n_images == 4
assert parse_attacks("fgsm,pgd", None, None, 2)
""",
    "robustbench": NET
    + """
from iaside_plugins.adapters.robustbench_adapter import benchmark

net = nn.Sequential(nn.AdaptiveAvgPool2d(8), net)
clean, robust = benchmark(
    net, 4, "cifar10", "Linf", data_dir="data", eps=1 / 255, attacks=["apgd-ce"], batch_size=4,
    n_bands=2, n_spectral=2, entry_path="entry.json", show_progress=False,
)
assert robust <= clean
""",
    "ray": """
import ray
from iaside_plugins.adapters.ray_adapter import profile_on_ray
""",
    "onnx": """
import warnings
import torch
from torch import nn
from iaside_plugins.adapters.models.load import load_model

net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.onnx.export(net, (torch.rand(1, 3, 8, 8),), "a.onnx", dynamo=False)
images = torch.rand(2, 3, 8, 8)
assert torch.allclose(load_model("onnx:a.onnx")(images), net(images), atol=1e-5)
""",
    "hf": """
from pathlib import Path
import torch
from iaside_plugins.adapters.compat import import_torchvision

import_torchvision()
from transformers import ViTConfig, ViTForImageClassification
from iaside_plugins.adapters.models.load import load_model

config = ViTConfig(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    image_size=16, patch_size=8, num_labels=3,
)
ViTForImageClassification(config).save_pretrained("tiny")
assert load_model("hf:tiny")(torch.rand(1, 3, 16, 16)).shape == (1, 3)
""",
    "parquet": """
import pyarrow
import pyarrow.parquet
from iaside_plugins.adapters.imagenet import find_records

pyarrow.parquet.write_table(pyarrow.table({"image": [b"bytes"], "label": [0]}), "a.parquet")
assert find_records("a.parquet")[0][0].read() == b"bytes"
""",
    "lightning": NET
    + """
from iaside_plugins import Protocol
from iaside_plugins.adapters.lightning_adapter import SpectralCallback
from lightning.pytorch import Callback, Trainer

callback = SpectralCallback((images, labels), Protocol(n_bands=3))
assert isinstance(callback, Callback)
assert Trainer(accelerator="cpu", callbacks=[callback], logger=False).callbacks
""",
    "demo": """
import sklearn.datasets
from iaside_plugins.workflows import demo, digits
from iaside_plugins.adapters import foolbox_adapter

foolbox_adapter.check_installed()
from iaside_plugins.leaderboard.render import latex, page, scatter, text
"""
    + COMMAND.format(lines=[["demo", "--help"]]),
    "imagenet": """
import numpy as np
from iaside_plugins.corruptions import CORRUPTIONS, corrupt

image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
for name in set(CORRUPTIONS) - {"frost"}:
    assert corrupt(image, name, 1, seed=0).shape == image.shape
"""
    + COMMAND.format(
        lines=[["profile", "python:tiny_model:thousand", "--data", "images", "--n-bands", "2"]]
    ),
    "leaderboard": COMMAND.format(
        lines=[
            ["leaderboard", "validate", *map(str, ENTRIES)],
            ["leaderboard", "build", "--check", "--folder", str(ROOT / "leaderboard")],
        ]
    ),
}


def requirements(name: str, extras: frozenset[str]) -> list[Requirement]:
    """Return what a distribution with some extras asks for on this machine."""
    if name == PROJECT["name"]:
        lines = list(PROJECT["dependencies"])
        for extra in extras - {""}:
            lines += PROJECT["optional-dependencies"][extra]
        found = map(Requirement, lines)
    else:
        found = map(Requirement, metadata.requires(name) or ())
    return [
        one
        for one in found
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def closure(extra: str) -> set[str]:
    """Return the distributions that the package with an extra installs.

    A requirement that is not installed is left out: it may be an alternative's, and the child
    fails where it is needed.
    """
    todo = [(PROJECT["name"], frozenset({"", extra}))]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        pair = todo.pop()
        if pair in done:
            continue
        done.add(pair)
        try:
            found = requirements(*pair)
        except metadata.PackageNotFoundError:
            continue
        todo += [(canonicalize_name(r.name), frozenset({"", *r.extras})) for r in found]
    return {name for name, _ in done}


def hidden(extra: str) -> list[str]:
    """Return the top-level modules of every distribution that an extra does not install."""
    allowed = closure(extra)
    return sorted(
        module
        for module, names in PACKAGES().items()
        if allowed.isdisjoint(map(canonicalize_name, names))
    )


def hiding(modules: list[str]) -> str:
    """Return the code that hides the distributions of some top-level modules."""
    assert "hypothesis" in modules  # something is hidden
    assert not {"torch", "numpy", "iaside_plugins"} & set(modules)
    names = sorted({name for module in modules for name in PACKAGES()[module]})
    return HIDE.format(hidden=modules, distributions=names)


Run = Callable[[str, list[str], Path], tuple[int, str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run an extra's code in a folder, without some top-level modules: exit code, what it said."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(
        [sys.executable, "-c", hiding(hidden("")) + FORKS],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def forked(extra: str, modules: list[str], folder: Path) -> tuple[int, str]:
            assert process.stdin
            assert process.stdout
            job = json.dumps([hiding(modules) + CODE[extra], str(folder)])
            print(job, file=process.stdin, flush=True)
            return int(process.stdout.readline()), (folder / "said").read_text()

        yield forked


def test_every_extra_is_tried():
    assert set(CODE) - {""} == set(PROJECT["optional-dependencies"]) - {"all", "dev", "docs"}


@pytest.mark.parametrize("extra", CODE, ids=lambda extra: extra or "core")
def test_an_extra_suffices(extra, tmp_path, run):
    direct = requirements(PROJECT["name"], frozenset({extra})) if extra else []
    for one in direct:
        try:
            metadata.version(one.name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"needs {one.name}, of the extra {extra}")
    if extra == "imagenet":
        make_tree(tmp_path / "images")
    if extra == "robustbench":
        make_cifar(tmp_path / "data", 4)
    code, said = run(extra, hidden(extra), tmp_path)
    assert code == 0, said[-2000:]


def test_a_requirement_that_is_not_named_is_noticed(tmp_path, run):
    pytest.importorskip("jinja2", reason="needs Jinja2, of the extra leaderboard")
    code, said = run("leaderboard", [*hidden("leaderboard"), "jinja2"], tmp_path)
    assert code != 0
    assert "need jinja2" in said
