"""The wheel, the entry point, and what importing the package costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "matplotlib",
    "torchvision",
    "timm",
    "foolbox",
    "eagerpy",
    "sklearn",
    "PIL",
    "cv2",
    "scipy",
    "pydantic",
    "safetensors",
    "robustbench",
    "pyautoattack",
    "ray",
    "typer",
)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Names in the wheel, built from a copy so that nothing is left in the checkout."""
    pytest.importorskip("build", reason="the wheel is built with `build`, of the extra dev")
    pytest.importorskip("setuptools", "77", reason="builds without isolation need setuptools>=77")
    copy = tmp_path_factory.mktemp("source")
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, copy)
    for part in ("iaside_plugins", "adapters", "leaderboard", "tests"):
        shutil.copytree(
            ROOT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--skip-dependency-check",
            "--outdir",
            str(out),
            str(copy),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_one_top_level_name(names):
    tops = {name.split("/")[0] for name in names}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == {"iaside_plugins"}


def test_every_module_but_the_studies_and_every_data_file_is_in_the_wheel(names):
    for folder in ("iaside_plugins", "adapters", "leaderboard"):
        inside = "iaside_plugins" if folder == "iaside_plugins" else f"iaside_plugins/{folder}"
        files = sorted((ROOT / folder).rglob("*.py"))
        assert len(files) > 20
        for path in files:
            name = f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
            assert (name in names) != ("/leaderboard/studies/" in name), name
    for pattern, inside in (
        ("adapters/imagenet/class_maps/*.json", "iaside_plugins/adapters/imagenet/class_maps"),
        (
            "iaside_plugins/corruptions/reference_errors/*.json",
            "iaside_plugins/corruptions/reference_errors",
        ),
        ("leaderboard/render/templates/*", "iaside_plugins/leaderboard/render/templates"),
    ):
        files = sorted(ROOT.glob(pattern))
        assert files
        for path in files:
            assert names[f"{inside}/{path.name}"] == path.read_bytes()
    assert "iaside_plugins/py.typed" in names


def test_no_tests_entries_or_links_in_the_wheel(names):
    assert not [name for name in names if "test" in name or "conftest" in name]
    assert not [name for name in names if "/entries/" in name or name.endswith((".csv", ".pth"))]
    # A link that was stored as one would hold its target's path instead of a module.
    assert b"def load_model" in names["iaside_plugins/adapters/models/load.py"]


def test_entry_point(names):
    (text,) = (data.decode() for name, data in names.items() if name.endswith("entry_points.txt"))
    assert "iaside = iaside_plugins.cli:main" in text
    (point,) = entry_points(group="console_scripts", name="iaside")
    assert callable(point.load())


def test_metadata(names):
    (text,) = (data.decode() for name, data in names.items() if name.endswith("/METADATA"))
    assert "Name: iaside-plugins" in text
    required = [line for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    core = {line.split()[1].split(">")[0] for line in required if "extra ==" not in line}
    assert core == {"torch", "numpy", "pandas", "tqdm", "typer"}
    assert not [line for line in required if "==" in line.split(";")[0]]  # metadata does not pin


@pytest.mark.parametrize("link", ["adapters", "leaderboard"])
def test_links_are_relative(link):
    path = ROOT / "iaside_plugins" / link
    assert path.is_symlink()
    assert os.readlink(path) == f"../{link}"  # noqa: PTH115  the text, not the path


def test_importing_imports_no_host():
    code = (
        "import sys; import iaside_plugins; print(*sys.modules); "
        "import iaside_plugins.cli; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    package, command = (set(line.split()) for line in done.stdout.splitlines())
    assert "iaside_plugins.importance.run" in package
    assert package.isdisjoint(HEAVY)
    assert command.isdisjoint(set(HEAVY) - {"typer"})
