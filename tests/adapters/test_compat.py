"""Hosts are mended only after their own import failed, once, and a healthy one is left alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from iaside_plugins.adapters import compat
from iaside_plugins.errors import MissingExtraError

# A package that fails as the published torchvision does: it registers a shape rule for an
# operator that its compiled library, which did not load, would have declared.
BROKEN = """
import torch
from torchvision import extension
STARTS = extension.STARTS
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): return dets
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold): return dets
"""


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of the mend; the mend itself is switched off, so the real torchvision is safe."""
    calls: list[str] = []
    monkeypatch.setattr(compat, "_declare_operators", lambda: calls.append("declared"))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return calls


def test_a_healthy_import_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, declared: list[str]
) -> None:
    healthy = types.ModuleType("torchvision")
    monkeypatch.setattr(compat, "_import", lambda name: healthy)
    assert compat.import_torchvision() is healthy
    assert compat.import_torchvision() is healthy
    assert declared == []


def test_another_failure_is_not_mended(
    monkeypatch: pytest.MonkeyPatch, declared: list[str]
) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("another reason")

    monkeypatch.setattr(compat, "_import", fail)
    with pytest.raises(RuntimeError, match="another reason"):
        compat.import_torchvision()
    assert declared == []


@pytest.fixture
def broken_torchvision(tmp_path: Path) -> None:
    """A package in tmp_path that fails as torchvision does."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN)
    (package / "extension.py").write_text(
        "import sys\nSTARTS = sys.__dict__.setdefault('S', [])\nSTARTS.append(1)\n"
    )


@pytest.mark.usefixtures("broken_torchvision")
def test_a_failing_import_is_mended_once(tmp_path: Path) -> None:
    """In a process of its own: declared operators and imported modules last as long as it does."""
    script = """
        import sys, torch
        sys.path.insert(0, sys.argv[1])
        from iaside_plugins.adapters import compat
        first = compat.import_torchvision()
        assert len(first.STARTS) == 2, "the submodule left by the failed import was kept"
        assert compat.import_torchvision() is first
        assert len(compat._libraries) == 1
        import torchvision  # as timm does later
        assert torchvision is first
        for name in ("nms", "qnms"):
            assert hasattr(torch.ops.torchvision, name)
    """
    _run(script, tmp_path)


@pytest.mark.usefixtures("broken_torchvision")
def test_a_users_own_code_gets_the_mended_torchvision(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "__init__.py").write_text("from . import before\nimport torchvision\n")
    (tmp_path / "library" / "before.py").write_text("")
    net = "def net():\n    from torch import nn\n    return nn.Flatten()\n"
    (tmp_path / "at_import.py").write_text(f"import library\n{net}")
    (tmp_path / "in_call.py").write_text(net.replace("from torch", "import library; from torch"))
    for module in ("at_import", "in_call"):
        script = f"""
            import sys
            sys.path.insert(0, sys.argv[1])
            from iaside_plugins.adapters.models import load_model
            load_model("python:{module}:net")
            assert sys.modules["library"].before is sys.modules["library.before"]
        """
        _run(script, tmp_path)


def _run(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_host_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"no_such_host .*-e '\.\[imagenet\]'"):
        compat._import("no_such_host")


def test_timm_gets_its_downloads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    compat.import_timm()
    import timm.models._hub as hub

    monkeypatch.setattr(hub, "hf_hub_download", None)
    monkeypatch.setattr(hub, "_has_hf_hub", False)
    timm = compat.import_timm()
    assert hub._has_hf_hub
    assert hub.hf_hub_download.keywords["library_version"] == timm.__version__
    mended = hub.hf_hub_download
    compat.import_timm()
    assert hub.hf_hub_download is mended


def test_timm_without_its_download_library_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compat.import_timm()
    import timm.models._hub as hub

    monkeypatch.setattr(hub, "_has_hf_hub", False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it now fails
    compat.import_timm()
    assert not hub._has_hf_hub


ROBUSTBENCH = """
import sys
sys.path.insert(0, {folder!r})
from iaside_plugins.adapters import compat
compat.import_timm = lambda: None
module = compat.import_robustbench()
print(module.VALUE, *[name in sys.modules for name in ("pkg_resources", "autoattack")])
"""


def robustbench_output(folder: Path, init: str, others: dict[str, str]) -> list[str]:
    """What an invented package robustbench finds in a process of its own."""
    (folder / "robustbench").mkdir()
    (folder / "robustbench" / "__init__.py").write_text(textwrap.dedent(init))
    for name, text in others.items():
        (folder / f"{name}.py").write_text(text)
    code = ROBUSTBENCH.format(folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_healthy_robustbench_is_left_alone(tmp_path: Path) -> None:
    healthy = {"pkg_resources": "REAL = 1", "autoattack": "REAL = 2"}
    init = "import pkg_resources, autoattack\nVALUE = pkg_resources.REAL + autoattack.REAL"
    out = robustbench_output(tmp_path, init, healthy)
    assert out == ["3 True True"]


def test_nothing_that_robustbench_does_not_ask_for_is_stood_in(tmp_path: Path) -> None:
    assert robustbench_output(tmp_path, "VALUE = 1", {}) == ["1 False False"]


def test_robustbenchs_two_broken_imports_are_stood_in_for(tmp_path: Path) -> None:
    pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    has = subprocess.run([sys.executable, "-c", "import pkg_resources"], capture_output=True)
    if has.returncode == 0:
        pytest.skip("this environment has pkg_resources")
    init = """
        import pkg_resources
        from autoattack import AutoAttack
        from autoattack.state import EvaluationState
        import json
        VALUE = pkg_resources.resource_filename("json.decoder", "x.txt") == \\
            json.__file__.replace("__init__.py", "x.txt")
    """
    # It finds them; nobody else does afterwards: pytest, for one, would trip over half a module.
    assert robustbench_output(tmp_path, init, {}) == ["True False False"]


def test_another_failure_of_robustbench_is_not_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, *_: str) -> None:
        raise ModuleNotFoundError("no gdown", name="gdown")

    monkeypatch.setattr(compat, "import_timm", lambda: None)
    monkeypatch.setattr(compat, "_import", fail)
    with pytest.raises(ModuleNotFoundError, match="no gdown"):
        compat.import_robustbench()


def test_robustbench_that_is_not_installed_names_its_extra(monkeypatch) -> None:
    monkeypatch.setattr(compat, "import_timm", lambda: None)
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(MissingExtraError, match=r"-e '\.\[robustbench\]'"):
        compat.import_robustbench()
