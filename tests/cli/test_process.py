"""The installed command in processes of its own: exit codes, streams, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from image_files import make_tree

from iaside_plugins.cli import stdout

TESTS = Path(__file__).resolve().parent.parent


def _run(
    *arguments: object, module: str = "iaside_plugins.cli", **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "PYTHONUTF8": "1",
            **env,
        },
    )


def test_profile_prints_without_bars_where_stderr_is_no_terminal(images, tmp_path):
    done = _run(
        "profile",
        "python:tiny_model:network",
        "--data",
        images,
        "--n-bands",
        3,
        module="iaside_plugins",
        IASIDE_CACHE=str(tmp_path),
        PYTHONIOENCODING="cp1252",
        PYTHONUTF8="0",
    )
    assert done.returncode == 0, done.stderr
    assert "signed score" in done.stdout
    (line,) = done.stderr.splitlines()  # "█" is none of the characters of that encoding
    assert "not distinguishable from chance" in line


def test_bad_input_is_one_line(tmp_path):
    tree = make_tree(tmp_path / "tree", ("bird",), n=3, height=32, width=32)
    damaged = tree / "bird" / "img_1.png"
    damaged.write_bytes(damaged.read_bytes()[:900])
    done = _run(
        "profile",
        "python:tiny_model:network",
        "--data",
        tree,
        "--quiet",
        IASIDE_CACHE=str(tmp_path / "cache"),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "1 of 3 images are unreadable" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_json_on_stdout_is_all_there_whatever_else_is_printed(tmp_path):
    """Python's prints, those of C, of other programs, and of what runs as the process ends."""
    script = tmp_path / "prints.py"
    script.write_text(
        "import atexit, ctypes, os, sys\n"
        "import stdout\n"
        "with stdout.stdout_for_json(sys.argv[1:]):\n"
        "    print('python', flush=True); ctypes.CDLL(None).puts(b'from c')\n"
        "    os.system('echo program'); atexit.register(print, 'the end')\n"
        "    stdout.print_json('{}')\n"
    )
    (tmp_path / "stdout.py").write_bytes(Path(stdout.__file__).read_bytes())  # without torch
    for words in (["--json", "-"], ["--json=-"], ["--json", "/dev/stdout"]):
        command = [sys.executable, str(script), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "{}\n"
        assert set(done.stderr.split("\n")) == {"python", "from c", "program", "the end", ""}
