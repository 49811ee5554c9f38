"""`iaside doctor` without a folder: what works, what is missing, what is broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from iaside_plugins.cli import command as cli
from iaside_plugins.workflows import installation
from iaside_plugins.workflows.installation import check_installation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def _kinds(text):
    return {f.kind for f in check_installation() if text in f.text}


def test_parts_are_there_missing_or_broken(tmp_path, monkeypatch):
    (tmp_path / "broken_host.py").write_text("raise RuntimeError('no GPU\\nfound')")
    (tmp_path / "halfway_host.py").write_text("import what_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    hosts = ("numpy", "no_such_host", "broken_host", "halfway_host")
    monkeypatch.setattr(installation, "EXTRAS", {"some": {name: name for name in hosts}})
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / "cache"))
    assert _kinds("numpy 2") == {"ok"}
    assert _kinds("no_such_host not installed: what needs it stops; pip install") == {"note"}
    assert _kinds("broken_host is installed and cannot be imported (RuntimeError: no GPU found)")
    assert _kinds("halfway_host is installed and cannot be imported") == {"problem"}
    assert _kinds(str(tmp_path / "cache")) == {"ok"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / "file" / "cache"))
    assert _kinds("cannot be written (Not a directory); set IASIDE_CACHE") == {"problem"}


def test_every_extra_and_all_that_it_installs_are_looked_at():
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = {}
    for extra, texts in project["optional-dependencies"].items():
        found = [one for one in map(Requirement, texts) if one.marker is None]
        extras[extra] = {canonicalize_name(one.name) for one in found} - {project["name"]}
    for name in ("all", "docs", "dev"):  # others put together, and tools
        del extras[name]
    looked_at = {
        extra: set(map(canonicalize_name, modules))
        for extra, modules in installation.EXTRAS.items()
    }
    assert looked_at == extras


@pytest.mark.parametrize("broken", [False, True])
def test_the_command(monkeypatch, capsys, tmp_path, broken):
    extras = {"some": {"numpy": "numpy"}}
    monkeypatch.setattr(installation, "EXTRAS", extras)
    (tmp_path / "file").touch()
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / ("file/x" if broken else "cache")))
    monkeypatch.setattr(sys, "argv", ["iaside", "doctor"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert end.value.code == 2 * broken
    assert err == "iaside: 1 problems in the installation; each is named above\n" * broken
    assert out.startswith("ok       iaside-plugins ")
