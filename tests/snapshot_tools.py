"""How `snapshot.py` runs commands and turns what they give into values that can be compared."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).resolve().parent.parent
KIT = Path(os.environ.get("IASIDE_KIT", ROOT.parent / "shared" / "kit")).resolve()
CIFAR, PHOTOGRAPHS = KIT / "cifar10", KIT / "images"
ROBUST, STANDARD, MOBILE = "kit:c10_small_pgd", "kit:c10_resnet20", "kit:mcunet_5fps"
LARGEST = 512  # numbers of an array that are recorded one by one; larger ones by their digest
DROPPED = ("provenance", "seconds", "date", "git_commit", "git_dirty", "versions", "machine")
COST_TABLE = re.compile(r"(?<=s/image\n)(?:  .*\n)+")  # its last column is a time
COST = re.compile(r"about [\d.,]+ (?:s|seconds|min|minutes|h|hours)\b")

sys.path.insert(0, str(ROOT))  # this checkout's package, whatever else is installed
os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "IASIDE_KIT": str(KIT), "TERM": "dumb"}
torch.set_num_threads(1)


def digest(data: bytes) -> str:
    """SHA-256 (hex)."""
    return hashlib.sha256(data).hexdigest()


def plain(value: Any) -> Any:
    """JSON values of anything: exact numbers, digests of large arrays, nothing of `DROPPED`."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items() if key not in DROPPED}
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("list"))
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (list, tuple)):
        with contextlib.suppress(ValueError, TypeError):
            array = np.asarray(value)
            if array.dtype.kind in "iuf" and array.size > LARGEST:
                return plain(array)
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray) and value.size > LARGEST:
        found = digest(np.ascontiguousarray(value).tobytes())
        mean = float(value.astype(np.float64).mean())  # tells rounding from another result
        return {
            "sha256": found,
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "mean": mean,
        }
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return cleaned(value) if isinstance(value, str) else value


def cleaned(text: str) -> str:
    """Text without the paths of the kit and of this run, and without times."""
    for path, name in ((KIT, "<kit>"), (Path.cwd(), "<folder>"), (ROOT, "<checkout>")):
        text = text.replace(str(path), name)
    text = COST_TABLE.sub(lambda table: re.sub(r" \S+\n", "\n", table[0]), text)
    return COST.sub("about <time>", text)


def ended(*arguments: object) -> dict[str, Any]:
    """What `iaside` with these arguments ends with: exit code, stdout, last line of stderr."""
    from iaside_plugins.cli import main

    out, err, kept = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["iaside", *map(str, arguments)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = kept
    last = err.getvalue().strip().splitlines()[-1:] if code else []
    return {"code": code, "stdout": cleaned(out.getvalue()), "stderr": cleaned("".join(last))}


def iaside(*arguments: object) -> str:
    """What `iaside` with these arguments prints; it must succeed."""
    end = ended(*arguments)
    if end["code"]:
        raise RuntimeError(f"iaside {' '.join(map(str, arguments))}: {end['stderr']}")
    return str(end["stdout"])


def adapter_command(*arguments: object) -> str:
    """What the RobustBench adapter's command prints, in a process of its own."""
    command = [sys.executable, "-m", "iaside_plugins.adapters.robustbench_adapter"]
    command += map(str, arguments)
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=here, check=True, capture_output=True, text=True)
    return cleaned(done.stdout)


def read(path: Path | str) -> Any:
    """A JSON file as `plain` values."""
    return plain(json.loads(Path(path).read_text()))


def contents(folder: Path) -> dict[str, Any]:
    """The files below a folder: JSON as values, other text by lines, the rest by digest."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            text = cleaned(path.read_text())
            found[str(path.relative_to(folder))] = text.splitlines()
            if path.suffix == ".json":
                found[str(path.relative_to(folder))] = plain(json.loads(text))
        except UnicodeDecodeError:
            found[str(path.relative_to(folder))] = digest(path.read_bytes())
    return found


def net(spec: str) -> Any:
    """A model of the kit on images in [0, 1]."""
    from iaside_plugins.adapters.models import load_model

    return load_model(spec)


def images_of(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """So many CIFAR-10 images of the kit, (n, 3, 32, 32), and their labels."""
    from iaside_plugins.adapters.imagenet import ImageFolderData

    data = ImageFolderData(CIFAR, resize=None, crop=None, n_images=n, seed=seed, batch_size=n)
    images, labels, _ = next(iter(data))
    return images, labels


def made_with() -> dict[str, str]:
    """What exact numbers depend on beside the code."""
    names = (
        "torch",
        "numpy",
        "scipy",
        "pandas",
        "pillow",
        "opencv-python-headless",
        "timm",
        "torchvision",
        "foolbox",
        "captum",
        "matplotlib",
        "typer",
        "click",
    )
    found = {name: metadata.version(name) for name in names}
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {**found, "python": sys.version.split()[0], "processor": model[1] if model else "?"}


def rows_of(folder: Path) -> dict[str, str]:
    """Return a digest of every stored row below a folder of --resume, whatever file it is in."""
    found = {}
    for path in sorted(folder.rglob("rows-*.npz")):
        with np.load(path) as chunk:
            for key, row, note in zip(chunk["keys"], chunk["rows"], chunk["notes"], strict=True):
                found[f"{path.parent}/{key}"] = digest(row.tobytes() + str(note).encode())
    return found
