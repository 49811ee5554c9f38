"""The code that a `python:` model consists of is in its digest, wherever it lies."""

from __future__ import annotations

import hashlib
import sys

import pytest

from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.storage.provenance import model_digest

FILES = {
    "own_nets.py": "from own_parts.net import Net\ndef net(): return Net().eval()\n",
    "own_parts/__init__.py": "",
    "own_parts/net.py": (
        "import importlib\nimport torch\nfrom . import scale\nimport own_more as m\n"
        "named = importlib.import_module('own_' + 'named')\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        from own_late import late\n"
        "        return late(m.more(x.mean(dim=(2, 3)))) * scale.SCALE * named.ONE\n"
    ),
    "own_parts/scale.py": "SCALE = 2.0\n",
    "own_more.py": "def more(x): return x + 1\n",
    "own_late.py": "def late(x): return x\n",
    "own_named.py": "ONE = 1\n",
    "own_other.py": "",
}


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Load the model as a new process would."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load():
        for name in [name for name in sys.modules if name.startswith("own_")]:
            del sys.modules[name]
        return model_digest(load_model("python:own_nets:net"))

    yield load
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_a_model_imports_counts(fresh, tmp_path, name):
    before = fresh()
    assert fresh() == before
    (tmp_path / name).write_text(FILES[name] + "# changed\n")
    assert (fresh() != before) == (name != "own_other.py")


def test_code_that_runs_is_not_that_of_a_later_file(fresh, tmp_path):
    before = fresh()
    (tmp_path / "own_more.py").write_text("def more(x): return x + 2\n")
    assert model_digest(load_model("python:own_nets:net")) == before  # imported as it was
    assert fresh() != before


def test_of_one_file_it_is_the_digest_of_the_file(tmp_path, monkeypatch):
    text = "import torch\ndef net(): return torch.nn.Flatten().eval()\n"
    (tmp_path / "own_single.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    model = load_model("python:own_single:net")
    del sys.modules["own_single"]
    assert model.code_sha256 == hashlib.sha256(text.encode()).hexdigest()
