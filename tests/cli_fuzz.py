"""Calls of the command line, seeded: sound options, odd models and folders, junk for any value."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import odd_nets
import typer
from image_files import make_tree, random_pixels, save

from iaside_plugins.cli import command as cli
from iaside_plugins.corruptions.frost import FROST_FILES
from iaside_plugins.leaderboard.build import BOARD

SECONDS = 60  # within which a call must end
LONGEST = 1500  # characters of a line on stderr
TINY = ("network", "grey", "small_input", "nan_without_band_0", "nan_always", "no_network")
MODELS = [f"python:odd_nets:{name}" for name in odd_nets.NAMES if name not in ("Any", "late")]
MODELS += ["python:odd_nets:late", *(f"python:tiny_model:{name}" for name in TINY)]
MODEL_NAMES = ("model", "models", "spec", "versus")  # of parameters
SOUND = ["python:tiny_model:network"]
BAD_MODELS = [
    *("", ":", "python:", "python:odd_nets", "python:odd_nets:", "python:nowhere:net", "timm:no"),
    *("kit:none", "robustbench:x", "robustbench:cifar10/Linf/x", "torchvision:x@y", "python:.:x"),
    *("python:syntax:net", "python:odd_nets:NAMES", "cat", "python:odd_nets:\udcff", "python::::"),
]
JUNK = [
    *("", " ", "0", "-1", "1", "nan", "inf", "-inf", "1e999", "9" * 5000, "x" * 3000, "None"),
    *("\u200b", "\udcff", "a\nb", "=", "a=b", "[", "{}", "[" * 2000, "1,,2", ",", "0.5", "1/0"),
    *("--", "-", ".", "..", "nowhere/x", "images", "true", "１", "1_0", "0x1", "8/255", "*", "%s"),
]
DATA = [
    *(
        "images",
        "images",
        "images",
        "images/bird",
        "empty",
        "nowhere",
        "one_class",
        "grey",
        "list.csv",
    ),
    *("bad.csv", "damaged", "mixed", "long", "text.txt", "", "numbered", "entry.json", "flat"),
]
FILES = [
    "out.json",
    "out",
    "nowhere/out.json",
    "images",
    "entry.json",
    "text.txt/x",
    "kept",
    "a.npz",
]
PROTOCOLS = [
    *("default", "reference", "absence=gaussian", "absence=replacement", "range_handling=clip"),
    *("estimator=permutation,n_permutations=2", "estimator=regression,n_coalitions=6", "beta=0.5"),
    *("absence=batch_replacement", "temperature=0", "temperature=nan", "beta=1", "seed=-1", "x=1"),
    *(
        "n_bands=true",
        "n_bands=2.5",
        "absence=[]",
        "entry.json",
        "protocol.json",
        "band_norm=boxes",
    ),
    *("shuffled=true", "temperature=1e-300", "temperature=1e300", "estimator=exact,n_bands=30"),
]
VALUES: dict[str, list[Any]] = {
    "data": DATA,
    "weights": ["good.pth", "other.pth", "text.txt", "nowhere.pth", "images", "a.npz"],
    "name": ["a name", "x"],
    "training": ["standard"],
    "resize": [0, 16, 32, -1],
    "crop": [0, 16, 32, 100],
    "interpolation": ["bilinear", "bicubic", "nearest", "x"],
    "labels": ["auto", "rank"],
    "classes": ["classes.txt", "bad.csv", "text.txt", "nowhere", "images"],
    "n_images": [1, 2, 3, 99, 0, -1],
    "n_bands": [1, 2, 3, 8, 16, 17, 0, -1, 10**6],
    "protocol": PROTOCOLS,
    "device": ["cpu", "auto", "cuda", "cuda:0", "cuda:99", "cpu,cpu", "meta"],
    "batch_size": ["1", "2", "64", "auto", "0", "-1", "1000000"],
    "precision": ["float32", "float64", "bfloat16", "float16", "float"],
    "forwards": ["plain", "fast", "x"],
    "target_error": [0.5, 0.01, 0, -1, "nan"],
    "target": ["score", "signed_score", "sign", "x"],
    "seed": [0, 1, -1, 2**31, 2**64],
    "workers": [0, -1],
    "resume": ["fresh", "kept", "kept", "images", "text.txt", "nowhere/deep", "evaluated"],
    "json_file": ["-", "-", *FILES],
    "save": FILES,
    "plot": ["plot.png", "plot.svg", "plot.xyz", "nowhere/plot.png", "images"],
    "corruptions": ["none", "none", "fog", "brightness,contrast", "images", "x", "generate"],
    "severities": ["1", "1,3", "0", "6"],
    "frost": ["frost", "images", "nowhere"],
    "cache": ["cache", "text.txt", "images"],
    "reference": ["alexnet", "entry.json", "nowhere", "text.txt"],
    "attacks": ["none", "fgsm", "pgd", "fgsm,pgd", "fgm", "pgd_l2", "x", "fgsm,fgsm"],
    "epsilons": ["8/255", "0", "2/255,8/255", "1", "-1", "2", "1/0", "nan"],
    "epsilons_l2": ["0.5", "0", "-1", "1e9"],
    "attack_steps": [1, 2, 0, -1],
    "n_attack": [1, 2, 0, -1, 99],
    "n_spectral": [1, 2, 0, -1, 99],
    "n_sensitivity": [1, 0, -1],
    "methods": ["ig", "saliency", "input_x_gradient", "deep_lift", "occlusion", "x", "ig,ig"],
    "beside": ["compared.json", "entry.json", "text.txt"],
    "entries": ["entry.json", "images", "nowhere"],
    "range_handling": ["none", "clip", "none,clip", "x"],
    "absence": ["zero", "gaussian", "zero,replacement", "x"],
    "band_norm": ["chebyshev", "euclidean", "x"],
    "bands": ["2", "2,3", "0", "x", "40"],
    "temperature": ["1", "1,fitted", "0", "nan", "x"],
    "beta": [0.5, 0.9, 0, 1, 2, "nan"],
    "crossed": ["2", "3", "x"],
    "grid": [2, 4, 8, 1, -1],
    "step": [1, 4, 16, 0],
    "norm": [2, 0.5, 0, -1, "nan"],
    "mean": ["0.5", "imagenet", "0.1,0.2", "125"],
    "std": ["0.5", "imagenet", "0.1,0.2", "0"],
    "versus_mean": ["0.5", "x"],
    "versus_std": ["0.5", "0"],
    "versus_weights": ["good.pth", "nowhere.pth"],
    "repair": [0, 2, 50, -1],
    "n_explain": [1, 2, 0, -1],
    "perturbed": ["images", "mixed", "nowhere"],
    "source": ["saved.npz", "kept", "evaluated", "images", "text.txt", "nowhere", "entry.json"],
    "by_class": FILES,
    "folder": ["images", "nowhere", "board", "text.txt"],
    "files": ["entry.json", "text.txt", "nowhere", "images", "compared.json"],
    "file": ["entry.json", "text.txt", "nowhere", "images"],
    "entry": ["entry.json", "text.txt", "nowhere", "images"],
    "to": ["robustbench", "model-card", "bibtex", "x"],
    "out": FILES,
    "dataset": ["mine", "imagenet"],
    "note": ["a note"],
    "reason": ["a better run", " "],
    "supersedes": ["x"],
}
NOT_CALLED = {  # what makes networks, a page for the Hub or a schema, and what needs git
    *("demo", "leaderboard rename", "leaderboard space", "leaderboard schema"),
    "leaderboard submission",
}
LONG = {"n_train", "n_seeds"}  # of the demo, which is not called
NEVER = {"ray", "help", "version", "repository", "commit", "maintainer", "jpeg"} | LONG
# Given unless drawn otherwise: what a call needs, and what keeps it short.
USUAL: dict[str, dict[str, Any]] = {
    "profile": {"data": "images", "n_bands": 2},
    "evaluate": {
        **{"data": "images", "out": "out.json", "n_bands": 2, "corruptions": "brightness"},
        **{"attacks": "fgsm", "epsilons": "8/255"},
    },
    "compare": {"data": "images", "n_bands": 2, "methods": "saliency", "n_sensitivity": 1},
    "spectrum": {"data": "images", "n_bands": 2, "corruptions": "brightness", "severities": "1"},
    "sensitivity": {
        **{"data": "images", "n_bands": 2, "range_handling": "none,clip", "absence": "zero"},
        **{"band_norm": "chebyshev", "temperature": "1", "beta": "0.75"},
    },
    "explain": {"data": "images", "n_bands": 2, "corruptions": "brightness", "severities": "1"},
    "heatmap": {"data": "images", "n_bands": 2, "grid": 4},
    "show": {},
    "doctor": {},
    "leaderboard validate": {},
    "leaderboard export": {"to": "bibtex"},
    "leaderboard add": {"folder": "board"},
    "leaderboard build": {"folder": "board"},
}
WEIGHTS = {
    "profile": 6,
    "evaluate": 6,
    "explain": 5,
    "heatmap": 4,
    "compare": 4,
    "spectrum": 5,
    "sensitivity": 3,
    "show": 2,
}


@dataclass(frozen=True)
class Call:
    """A command with its arguments, and what it left behind."""

    arguments: tuple[str, ...]
    code: Any = None
    out: str = ""
    err: str = ""
    seconds: float = 0.0

    def faults(self) -> list[str]:
        """Return what is wrong with the end of the call."""
        found = []
        lines = self.err.split("\n")[:-1] if self.err else []
        if self.code not in (0, 2):
            found.append(f"exit {self.code!r}")
        if "Traceback" in self.err:
            found.append("a traceback")
        own = [line.startswith("iaside: ") for line in lines]
        if not all(own[-1:] if self.arguments[0] == "leaderboard" else own):
            found.append("a line on stderr that is not the command's")
        if (self.code == 2) != bool(lines) and self.code == 2:
            found.append("exit 2 without a word")
        if self.err and not self.err.endswith("\n"):
            found.append("half a line on stderr")
        if any(len(line) > LONGEST for line in lines):
            found.append("a line that nobody reads")
        if self.code == 0:
            found += self._numbers()
        return found

    def _numbers(self) -> list[str]:
        said = " ".join(self.arguments).lower()
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        if ("--json", "-") in pairs:
            try:
                json.loads(self.out, parse_constant=_no_number)
            except ValueError as error:
                return [f"stdout is no JSON: {error}"]
        if "nan" in said or "inf" in said:
            return []
        found = re.search(r"(?i)(?<![\w./-])[+-]?(nan|inf)(?![\w./-])", self.out)
        return [f"a number that is none: {found[0]}"] if found else []


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


class HungError(BaseException):
    """A call that does not end."""


def commands() -> dict[str, Any]:
    """Return the command line's own commands by name, as click has them."""
    found: dict[str, Any] = {}
    for name, one in typer.main.get_command(cli.app).commands.items():
        inner = getattr(one, "commands", None)
        found |= {name: one} if inner is None else {f"{name} {k}": v for k, v in inner.items()}
    return found


def drawn(draw: random.Random) -> tuple[str, ...]:
    """Return the arguments of one call."""
    known = commands()
    names = list(USUAL)
    name = draw.choices(names, [WEIGHTS.get(one, 1) for one in names])[0]
    given = {k: v for k, v in USUAL[name].items() if draw.random() > 0.03}
    options = {p.name: p for p in known[name].params if p.name not in NEVER}
    optional = [k for k, p in options.items() if p.param_type_name == "option"]
    for key in draw.sample(optional, min(len(optional), draw.choice((0, 0, 1, 1, 2, 3)))):
        given[key] = _value(key, options[key], draw)
    words = name.split()
    for key, parameter in options.items():
        if parameter.param_type_name == "argument":
            n = draw.choice((1, 1, 2)) if parameter.nargs == -1 else 1
            if draw.random() < 0.97:
                words += [str(_value(key, parameter, draw)) for _ in range(n)]
        elif key in given:
            option = max(parameter.opts, key=len)
            words += [option] if parameter.is_flag else [option, str(given[key])]
    if draw.random() < 0.02:
        words.insert(draw.randrange(len(words) + 1), draw.choice(JUNK))
    return tuple(words)


def _value(key: str, parameter: Any, draw: random.Random) -> Any:
    if key in MODEL_NAMES and draw.random() > 0.03:
        pool = draw.choices((SOUND, MODELS, BAD_MODELS), (4, 5, 1))[0]
        return draw.choice(pool)
    if draw.random() < 0.08:
        return draw.choice(JUNK)
    return draw.choice(VALUES.get(key, JUNK))


def make_inputs(home: Path) -> Path:
    """Make the folder whose copy every call finds as its current one."""
    home.mkdir(parents=True)
    classes = ("airplane", "bird", "cat")
    make_tree(home / "images", classes, n=1, height=32, width=32)
    make_tree(home / "one_class", ("bird",), n=2, height=32, width=32)
    make_tree(home / "numbered", ("0", "3", "7"), n=1, height=32, width=32)
    for k, size in enumerate(((32, 32), (20, 50), (64, 16))):
        save(home / "mixed" / "bird" / f"{k}.png", random_pixels(k, *size))
        save(home / "flat" / f"{k}.png", random_pixels(k, 32, 32))
        save(home / "grey" / "bird" / f"{k}.png", random_pixels(k, 32, 32)[:, :, 0])
    save(home / "long" / "bird" / "0.png", random_pixels(0, 2, 3000))
    shutil.copytree(home / "images", home / "damaged")
    (home / "damaged" / "bird" / "img_0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (home / "empty").mkdir()
    (home / "list.csv").write_text("path,label\nimages/bird/img_0.png,2\nimages/cat/img_0.png,3\n")
    (home / "bad.csv").write_text("path,label\nimages/bird/img_0.png,two\n,\n")
    (home / "text.txt").write_text("what is this\n")
    (home / "classes.txt").write_text("\n".join(classes))
    (home / "protocol.json").write_text('{"absence": "gaussian", "n_bands": 2}')
    (home / "syntax.py").write_text("def net(:\n")
    for k, name in enumerate(FROST_FILES):
        save(home / "frost" / name, random_pixels(900 + k, 64, 64))
    entry = sorted((BOARD / "entries" / "cifar10").glob("*.json"))[0]
    shutil.copy(entry, home / "entry.json")
    (home / "board" / "entries" / "cifar10").mkdir(parents=True)
    shutil.copy(entry, home / "board" / "entries" / "cifar10")
    model = SOUND[0]
    usual = ("--data", "images", "--n-bands", "2", "--quiet")
    quick = ("--corruptions", "none", "--attacks", "none")
    setup = [
        ("profile", model, *usual, "--resume", "kept", "--save", "saved.npz"),
        ("evaluate", model, *usual, *quick, "--out", "made.json", "--resume", "evaluated"),
        ("compare", model, *usual, "--methods", "saliency", "--json", "compared.json"),
    ]
    with contextlib.chdir(home) if hasattr(contextlib, "chdir") else _chdir(home):
        import torch
        from tiny_model import network, wide

        torch.save(network().state_dict(), "good.pth")
        torch.save(wide().state_dict(), "other.pth")
        np.savez("a.npz", x=np.arange(3))
        for arguments in setup:
            done = called(arguments)
            assert done.code == 0, done
    return home


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(arguments: tuple[str, ...], inputs: Path, *, process: bool = False) -> Call:
    """Call the command line in a copy of the inputs, in this process or in one of its own."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        shutil.copytree(inputs, home)
        with _chdir(home):
            return in_process(arguments) if process else called(arguments)


def called(arguments: tuple[str, ...]) -> Call:
    """Call the command line here."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, logging.root.handlers[:], os.environ.get("IASIDE_CACHE")
    start, code = time.monotonic(), None
    sys.argv, logging.root.handlers[:] = ["iaside", *arguments], []
    os.environ["IASIDE_CACHE"] = str(Path.cwd() / "work")

    def hung(*_: Any) -> None:
        raise HungError

    old = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            cli.main()
    except SystemExit as end:
        code = end.code
    except HungError:
        code = "hung"
    except BaseException as error:  # noqa: BLE001  it is what is looked for
        code = f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        sys.argv, logging.root.handlers[:], cache = before
        os.environ.pop("IASIDE_CACHE") if cache is None else os.environ.update(IASIDE_CACHE=cache)
    return Call(arguments, code, out.getvalue(), err.getvalue(), time.monotonic() - start)


def in_process(arguments: tuple[str, ...]) -> Call:
    """Call the installed command in a process of its own."""
    start = time.monotonic()
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "iaside_plugins", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=2 * SECONDS,
        env={**os.environ, "PYTHONPATH": path, "IASIDE_CACHE": str(Path.cwd() / "work")},
    )
    return Call(arguments, done.returncode, done.stdout, done.stderr, time.monotonic() - start)
