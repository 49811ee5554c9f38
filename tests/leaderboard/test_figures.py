"""Every committed picture is made by a command, small, undated, and the same each time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from iaside_plugins.display.plots import new_figure, save_figure
from iaside_plugins.leaderboard.studies import attributions

ROOT = Path(__file__).resolve().parents[2]
MADE = re.compile(r"^\t(.+?)\s+(?:# )?(\S+\.png)$", re.M)  # its last word, or in a comment
LISTED = dict(MADE.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


def committed():
    found = subprocess.run(
        ["git", "ls-files", "*.png"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("not a git checkout")
    return found.stdout.split()


def test_each_is_made_by_a_command_of_the_makefile():
    assert sorted(LISTED.values()) == sorted(committed())
    for command in LISTED:
        for module in re.findall(r"-m iaside_plugins\.leaderboard\.(\S+)", command):
            assert (ROOT / "leaderboard" / f"{module.replace('.', '/')}.py").is_file()


def test_each_is_small_and_says_neither_when_nor_by_what_it_was_made():
    for name in committed():
        data = (ROOT / name).read_bytes()
        assert len(data) < 150_000, name
        assert not re.search(rb"tEXt|iTXt|zTXt|tIME", data), name


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_the_same_figure_is_the_same_file(suffix, tmp_path):
    files = []
    for k in range(2):
        figure, (ax,) = new_figure(2, 1)
        ax.plot([1, 2])
        files.append(tmp_path / f"{k}{suffix}")
        save_figure(figure, files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_figure_of_attributions_comes_from_its_files(tmp_path):
    for file in attributions.FOLDER.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    attributions.build(tmp_path)
    assert (tmp_path / "profiles.png").read_bytes().startswith(b"\x89PNG")
