"""Records what this package computes and prints, and compares a later state with it, bit by bit.

    python tests/snapshot.py write FILE.json
    python tests/snapshot.py compare FILE.json [--only GROUP]

The code of this checkout runs, through public names and the command line only, on the kit of real
images and weights (IASIDE_KIT). Numbers are compared exactly, so both records must come from one
kind of processor and the same libraries; `compare` says where those differ. Not recorded, since
they may change: the provenance of entries (versions, commit, date, machine), seconds, and the
paths of the kit, of the checkout and of temporary folders.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from snapshot_library import captum, corruptions, foolbox, shapley
from snapshot_tools import (
    CIFAR,
    KIT,
    MOBILE,
    PHOTOGRAPHS,
    ROBUST,
    ROOT,
    STANDARD,
    adapter_command,
    cleaned,
    contents,
    digest,
    ended,
    iaside,
    images_of,
    made_with,
    net,
    plain,
    read,
    rows_of,
)

SHOWN = 40  # differences of a group that are printed
ABSENT = "(absent)"
COMMANDS = (
    "demo",
    "profile",
    "evaluate",
    "compare",
    "spectrum",
    "sensitivity",
    "show",
    "doctor",
    "leaderboard",
)
BOARD_COMMANDS = ("validate", "build", "add", "schema", "submission", "export")


def entries(_then: Any) -> dict[str, Any]:
    """Leaderboard entries by `iaside evaluate` and by the RobustBench adapter, and the demo's."""
    from iaside_plugins.adapters.robustbench_adapter import benchmark

    def evaluate(name: str, *arguments: object) -> None:
        text = iaside("evaluate", *arguments, "--out", f"{name}.json", "--device", "cpu")
        found[name] = {"entry": read(f"{name}.json"), "printed": text.splitlines()}

    def adapter(name: str, spec: str, **options: Any) -> None:
        two = benchmark(
            net(spec),
            entry_path=f"{name}.json",
            model_info_dir=f"{name}-info",
            to_disk=True,
            bundle=f"{name}-bundle",
            model_name=name,
            show_progress=False,
            **options,
        )
        files = {kind: contents(Path(f"{name}-{kind}")) for kind in ("info", "bundle")}
        found[name] = {"accuracies": two, "entry": read(f"{name}.json"), **files}

    found: dict[str, Any] = {}
    sampled = "absence=gaussian,range_handling=clip,estimator=permutation,n_permutations=8"
    evaluate(
        "standard",
        STANDARD,
        "--data",
        CIFAR,
        "--n-images",
        12,
        "--n-spectral",
        6,
        "--attacks",
        "fgsm,pgd",
        "--epsilons",
        "2/255,8/255",
        "--note",
        "a note",
    )
    evaluate(
        "robust",
        ROBUST,
        "--data",
        CIFAR,
        "--n-images",
        20,
        "--n-attack",
        10,
        "--seed",
        3,
        "--attacks",
        "fgsm,pgd,fgm,pgd_l2",
        "--epsilons",
        "1/255,4/255",
        "--attack-steps",
        10,
        "--epsilons-l2",
        0.25,
        "--batch-size",
        7,
        "--jpeg",
        "--protocol",
        sampled,
    )
    evaluate(
        "with-reference",
        ROBUST,
        "--data",
        CIFAR,
        "--n-images",
        12,
        "--n-bands",
        4,
        "--attacks",
        "none",
        "--reference",
        "standard.json",
        "--name",
        "other",
    )
    evaluate(
        "imagenet",
        MOBILE,
        "--data",
        PHOTOGRAPHS,
        "--n-images",
        4,
        "--n-spectral",
        3,
        "--attacks",
        "fgsm,pgd",
        "--attack-steps",
        5,
        "--epsilons",
        "0.25/255,0.5/255",
        "--reference",
        "alexnet_hendrycks_50k",
        "--cache",
        "corrupted",
    )
    adapter(
        "rb-linf",
        ROBUST,
        dataset="cifar10",
        threat_model="Linf",
        eps=4 / 255,
        n_examples=6,
        batch_size=4,
        data_dir=CIFAR,
        n_spectral=4,
    )
    adapter(
        "rb-corruptions",
        MOBILE,
        dataset="imagenet",
        threat_model="corruptions",
        n_examples=3,
        corruptions_data_dir="generate",
        data_dir=PHOTOGRAPHS,
        n_spectral=2,
        n_bands=4,
        cache="corrupted",
        reference_errors="alexnet_hendrycks_50k",
    )
    iaside(
        "demo",
        "--digits",
        "--n-seeds",
        1,
        "--n-images",
        20,
        "--n-train",
        64,
        "--n-bands",
        4,
        "--quiet",
        "--out",
        "demo",
        "--digits",
        "--json",
        "demo.json",
    )
    found["demo"] = read("demo.json")
    return found


def tables(_then: Any) -> dict[str, Any]:
    """Every file that `iaside leaderboard build` makes of the committed entries."""
    shutil.copytree(ROOT / "leaderboard" / "entries", "board/entries")
    iaside("leaderboard", "build", "--folder", "board")
    found = contents(Path("board"))
    given = {name: found.pop(name) for name in list(found) if name.startswith("entries")}
    for name in list(found):
        if name.endswith(".json"):
            found[f"{name}, bytes"] = digest(Path("board", name).read_bytes())
    found["entries, given"] = {name: digest(Path("board", name).read_bytes()) for name in given}
    found["check"] = iaside("leaderboard", "build", "--check", "--folder", "board")
    found["schema"] = iaside("leaderboard", "schema").splitlines()
    for entry in sorted(Path("board").rglob("*--m8-*.json"))[::9]:
        for form in ("robustbench", "model-card", "bibtex"):
            found[f"{form} of {entry.name}"] = ended("leaderboard", "export", entry, "--to", form)
    return found


def text(_then: Any) -> dict[str, Any]:
    """What commands print, their JSON and the bytes of their plots; messages of bad input."""
    few = ("--data", CIFAR, "--n-images", 8, "--device", "cpu")
    board = sorted((ROOT / "leaderboard" / "entries").rglob("*.json"))
    of_robust = [path for path in board if "small_pgd" in path.name or "resnet20" in path.name]
    found: dict[str, Any] = {}
    for name, command in {
        "profile": ("profile", STANDARD, *few, "--n-bands", 6, "--save", "saved.npz"),
        "profile, reference": ("profile", ROBUST, *few, "--protocol", "reference"),
        "profile, target": (
            "profile",
            ROBUST,
            "--data",
            CIFAR,
            "--n-bands",
            4,
            "--target-error",
            0.03,
        ),
        "profile, photographs": ("profile", MOBILE, "--data", KIT / "photos", "--n-images", 2),
        "show": ("show", "saved.npz", "--beta", 0.5, "--by-class", "classes.csv"),
        "spectrum": ("spectrum", *few, "--corruptions", "fog,contrast,gaussian_noise"),
        "spectrum, model": (
            "spectrum",
            *few,
            "--model",
            ROBUST,
            "--attacks",
            "fgsm,pgd,ddn,band_pgd",
            "--epsilons",
            "2/255",
            "--epsilons-l2",
            0.3,
            "--attack-steps",
            5,
            "--severities",
            "2,4",
        ),
        "compare": ("compare", ROBUST, *few, "--n-sensitivity", 2),
        "sensitivity": (
            "sensitivity",
            ROBUST,
            STANDARD,
            *few,
            "--n-bands",
            4,
            "--bands",
            4,
            *(part for path in of_robust for part in ("--entries", path)),
        ),
    }.items():
        printed = iaside(*command, "--json", "found.json", "--plot", "plot.png")
        found[name] = {"printed": printed.splitlines(), "json": read("found.json")}
        found[name]["plot"] = digest(Path("plot.png").read_bytes())
    found["classes"] = Path("classes.csv").read_text().splitlines()
    found["validate"] = iaside("leaderboard", "validate", *board)
    found["robustbench"] = adapter_command(
        "--model",
        ROBUST,
        "--n_ex",
        4,
        "--data_dir",
        CIFAR,
        "--attacks",
        "apgd-ce",
        "--eps",
        "2/255",
        "--device",
        "cpu",
        "--to_disk",
        "false",
        "--resume",
        "run",
    ).splitlines()
    for bad in (
        ("doctor", KIT),
        ("profile", "kit:nothing", *few),
        ("profile", ROBUST, "--data", "absent"),
        ("profile", ROBUST, *few, "--protocol", "absence=none"),
        ("evaluate", ROBUST, *few),
        ("show", "absent.npz"),
        ("spectrum", *few, "--corruptions", "rain"),
        ("nothing",),
        ("leaderboard", "validate", CIFAR.parent / "models.json"),
    ):
        found[f"bad: {cleaned(' '.join(map(str, bad)))}"] = ended(*bad)
    return found


def help_texts(_then: Any) -> dict[str, Any]:
    """The help of every command."""
    found: dict[str, Any] = {}
    for name in ("", *COMMANDS, *(f"leaderboard {name}" for name in BOARD_COMMANDS)):
        found[f"iaside {name}"] = iaside(*name.split(), "--help").splitlines()
    found["robustbench_adapter"] = adapter_command("--help").splitlines()
    return found


def files(then: Any) -> dict[str, Any]:
    """Folders of --resume: their bytes, runs that go on, and that those of `then` are read."""
    from iaside_plugins import Protocol, spectral_importance
    from iaside_plugins.adapters.foolbox_adapter import robust_evaluation

    few = ("--data", CIFAR, "--n-images", 8, "--device", "cpu", "--quiet")
    profile = ("profile", ROBUST, *few, "--n-bands", 5, "--json", "found.json")
    found: dict[str, Any] = {}
    for turn in ("first", "second"):
        iaside(*profile, "--resume", "run", "--save", f"{turn}.npz")
        found[f"profile, {turn}"] = read("found.json")
        iaside(
            "evaluate",
            ROBUST,
            *few,
            "--attacks",
            "fgsm",
            "--epsilons",
            "2/255",
            "--n-bands",
            4,
            "--out",
            "entry.json",
            "--resume",
            "evaluate",
        )
        found[f"evaluate, {turn}"] = read("entry.json")
        iaside(
            "compare",
            ROBUST,
            *few,
            "--n-bands",
            4,
            "--methods",
            "ig,kernel_shap",
            "--json",
            "found.json",
            "--resume",
            "compare",
        )
        found[f"compare, {turn}"] = read("found.json")
    kept = {
        re.sub(r"-[0-9a-f]{8}\.npz$", "-00000000.npz", str(path)): path.read_bytes()  # drawn names
        for pattern in ("run/*.*", "evaluate/**/*.*", "compare/*.json", "first.npz")
        for path in sorted(Path().glob(pattern))  # the rows of `compare` hold seconds
    }
    chunk = re.compile(r"rows-\d+-0+\.npz$")
    found["digests"] = {name: digest(data) for name, data in kept.items() if not chunk.search(name)}
    found["rows"] = {folder: rows_of(Path(folder)) for folder in ("run", "evaluate")}
    short = {name: data for name, data in kept.items() if name.startswith(("run", "first"))}
    found["bytes"] = {name: base64.b64encode(data).decode() for name, data in short.items()}
    for name, data in (found if then is None else then)["bytes"].items():
        path = Path("stored", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))
    found["stored, shown"] = {
        name: iaside("show", f"stored/{name}").splitlines() for name in ("run", "first.npz")
    }
    iaside(*profile, "--resume", "stored/run")
    found["stored, gone on"] = read("found.json")
    data, model, four = images_of(9), net(ROBUST), Protocol(n_bands=4, absence="gaussian")
    for name, most in {"part": 4, "rest": None, "again": None}.items():
        result = spectral_importance(model, data, four, resume="python", max_images=most)
        found[f"python, {name}"] = result.to_dict()
    import foolbox as fb

    for turn in ("first", "second"):
        robust = robust_evaluation(model, data, fb.attacks.FGSM(), [2 / 255], resume="attacks")
        found[f"robust_evaluation, {turn}"] = robust.to_dict()
    return found


GROUPS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "entries": entries,
    "shapley": shapley,
    "captum": captum,
    "foolbox": foolbox,
    "corruptions": corruptions,
    "tables": tables,
    "text": text,
    "help": help_texts,
    "files": files,
}


def record(group: str, then: Any = None) -> dict[str, Any]:
    """One group, made in a temporary folder, as JSON gives it back."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["IASIDE_CACHE"] = str(Path(folder).resolve() / "cache")
        try:
            torch.manual_seed(0)
            found = plain(GROUPS[group](then))
        finally:
            os.chdir(home)
    return dict(json.loads(json.dumps(found)))


def differences(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every place where two JSON values differ; floats by their digits, so NaN equals NaN."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*then, *now]):
            yield from differences(then.get(key, ABSENT), now.get(key, ABSENT), f"{path}/{key}")
    elif isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            yield f"{path}/length", len(then), len(now)
        for k, (a, b) in enumerate(zip(then, now, strict=False)):
            yield from differences(a, b, f"{path}/{k}")
    elif repr(then) != repr(now):
        yield path, then, now


def excerpt(one: Any, other: Any) -> str:
    """A value as text, around the first character in which it differs from another."""
    shown, beside = repr(one), repr(other)
    at = next((k for k, (a, b) in enumerate(zip(shown, beside, strict=False)) if a != b), 0)
    start = max(0, at - 60)
    return ("..." * (start > 0)) + shown[start : start + 160]


def main() -> int:
    """Write a record, or compare with one: 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", choices=GROUPS, action="append", help="repeatable")
    given = parser.parse_args()
    if not (KIT / "models.json").is_file():
        parser.error(f"there is no kit at {KIT}: set IASIDE_KIT")
    import iaside_plugins

    if not Path(iaside_plugins.__file__).resolve().is_relative_to(ROOT):
        parser.error(f"another checkout's package is imported: {iaside_plugins.__file__}")
    old = json.loads(given.file.read_text()) if given.action == "compare" else {}
    used, failed = made_with(), False
    for name, version in used.items() if old else ():
        if old["made_with"].get(name) != version:
            print(f"note: {name} was {old['made_with'].get(name)}, is {version}")
    new: dict[str, Any] = {"made_with": used, "groups": {}}
    for group in given.only or GROUPS:
        start, then = time.perf_counter(), old.get("groups", {}).get(group)
        now = new["groups"][group] = record(group, then)
        took = f"({time.perf_counter() - start:.0f} s)"
        if not old:
            print(f"{group}: {len(now)} recorded {took}", flush=True)
            continue
        found = list(differences(then or {}, now))
        changed = {path.split("/")[1] for path, _, _ in found}
        count = f"{len(changed)} different in {len(found)} places, " if changed else ""
        print(f"{group}: {count}{len(now.keys() - changed)} equal {took}", flush=True)
        for path, a, b in found[:SHOWN]:
            print(f"  {path}\n    then {excerpt(a, b)}\n    now  {excerpt(b, a)}")
        if len(found) > SHOWN:
            print(f"  and {len(found) - SHOWN} more")
        failed |= bool(found)
    if not old:
        given.file.write_text(json.dumps(new, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
