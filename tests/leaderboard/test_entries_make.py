"""What `leaderboard/entries.mk` would run: commands that parse, on the images a part says."""

from __future__ import annotations

import itertools
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from iaside_plugins.cli import command as cli

ROOT = Path(__file__).resolve().parents[2]
FILES = {  # file: what its command is given
    "explained/c10_resnet20--8.npz": "--data KIT/cifar10 --n-images 100 --seed 0",
    "explained/c10_resnet20--seed1.npz": "--data OUT/hundred --seed 1",
    "attacked/c10_resnet20.npz": "--data KIT/cifar10 --n-images 100",
    "profiles/c10_resnet20--12.npz": "--data KIT/cifar10 --n-images 100",
    "views/c10_resnet20.json": "--data KIT/cifar10 --n-images 100",
    "filters/c10_resnet20.json": "--data KIT/cifar10 --n-images 100",
    "cifar10/resnet18_cifar10.json": "--data KIT/cifar10 --n-explain 100",
    "quantised/c10_resnet20.json": "--data KIT/cifar10 --n-images 100",
    "quantised/mcunet_5fps.json": "--data KIT/photos --n-images 60",
    "temperature/resnet18_cifar10.json": "--data KIT/cifar10 --epsilon 2/255",
    "temperature/efficientnet_lite0.json": "--data KIT/photos --epsilon 0.25/255 --n-images 200",
    "photos/mcunet_5fps.json": "--data KIT/photos --n-attack 200",
    "photos/efficientnet_lite0.json": "--data KIT/photos --n-images 200 --n-attack 48",
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_measured_on_the_images_that_it_says(file, tmp_path):
    command = ["make", "-n", "-f", "leaderboard/entries.mk", "KIT=KIT", f"OUT={tmp_path}", "VENV=V"]
    done = subprocess.run(
        [*command, f"{tmp_path}/{file}"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    text = done.stdout.replace("\\\n", " ").replace(str(tmp_path), "OUT")
    start = f"mkdir -p OUT/{Path(file).parent}; start=$(date +%s); "
    line = [line for line in text.splitlines() if line.startswith(start) and file in line][-1]
    words = shlex.split(line.removeprefix(start).rpartition(" && ")[0])
    expected = FILES[file].split()
    given = list(itertools.pairwise(words))
    assert all(pair in given for pair in zip(expected[::2], expected[1::2], strict=True))
    assert ("--n-images" in words) == ("--n-images" in expected)
    if words[0] == "V/bin/iaside":
        typer.main.get_command(cli.app).commands[words[1]].make_context(words[1], words[2:])
