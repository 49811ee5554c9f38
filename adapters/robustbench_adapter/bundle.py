"""The files of a pull request to RobustBench, or of an external evaluation, in one folder.

`model_info/...` has the JSON and the row of cells, and `issue.md` the filled-in form. After an
attack, `adversarial.pt` has the images: a float32 tensor in [0, 1] in the order of `image_ids.txt`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iaside_plugins.adapters.robustbench_adapter.autoattack import AttackedImages, AutoAttackSpec
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest, Request
from iaside_plugins.adapters.robustbench_adapter.run import BenchmarkResult
from iaside_plugins.adapters.robustbench_adapter.tables import upsert
from iaside_plugins.budgets import format_budget
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.storage.files import write_atomic

TO_FILL = "(please fill in)"


def write_bundle(
    folder: Path,
    ready: PreparedRequest,
    result: BenchmarkResult,
    run: Mapping[str, Any],
    own: Mapping[str, Any],
) -> None:
    """Write the bundle.

    Args:
        folder: Folder of the bundle; made if it does not exist.
        ready: The request.
        result: The results.
        run: RobustBench's fields, from `model_info.measured`.
        own: This package's fields, from `model_info.own_fields`.

    Raises:
        InputError: A file cannot be written, or an existing one is of another kind.
    """
    threat = ready.threat
    json_file, table = ready.model_info_files()
    home = folder / "model_info" / threat.dataset / threat.folder
    model_info.update(home / json_file.name, run, own)
    if table is not None:
        upsert(home / table.name, ready.name, result.cells, threat.corruptions)
    write_atomic(folder / "issue.md", issue_text(ready, result, run).encode())
    ids = list(ready.images.ids)
    if ready.spec is not None:
        ids = _write_tensor(folder / "adversarial.pt", ready, result)
    write_atomic(folder / "image_ids.txt", ("\n".join(ids) + "\n").encode())


def issue_text(ready: PreparedRequest, result: BenchmarkResult, run: Mapping[str, Any]) -> str:
    """Return the text of an issue: a new model, or an external evaluation after an attack."""
    threat, info = ready.threat, ready.info
    lines = [
        f"# {ready.name}: {threat.dataset}, {threat.model}",
        "",
        "## Paper",
        f"- Title: {TO_FILL}",
        f"- Link: {TO_FILL}",
        f"- Authors: {TO_FILL}",
        f"- Venue: {TO_FILL}",
        "",
        "## Model",
        f"- Model id: {ready.name}",
        f"- Architecture: {info['architecture']} ({info['n_parameters']:,} parameters)",
        f"- Checkpoint: {TO_FILL}; SHA-256 {info['weights_sha256']}",
        f"- Additional training data: {TO_FILL}",
        "",
        "## Claim",
        f"- Dataset: {threat.dataset}, {result.n_images} images ({ready.images.selection})",
        f"- Threat model: {threat.model}"
        + (f", eps {format_budget(ready.spec.epsilons[0])}" if ready.spec is not None else ""),
        f"- Clean accuracy: {run['clean_acc']} %",
    ]
    if ready.spec is not None:
        lines += _attack_lines(ready.spec, ready.request, result)
    else:
        lines += _corruption_lines(result, run, threat.suffix)
    return "\n".join(lines) + "\n"


def _attack_lines(spec: AutoAttackSpec, request: Request, result: BenchmarkResult) -> list[str]:
    """Return the lines on accuracy under attack."""
    other = (
        " under attacks of the submitter's choice, which is no AutoAttack accuracy: not for "
        "autoattack_acc"
    )
    return [
        f"- Robust accuracy: {model_info.percent(result.robust_accuracy)} %"
        + ("" if spec.attacks is None else other),
        f"- Method: {spec.name} ({', '.join(spec.order)}), seed {request.seed}, batches of "
        f"{request.batch_size}",
        "- Adversarial images: adversarial.pt, float32 in [0, 1], in the order of image_ids.txt "
        f"(budget {format_budget(spec.epsilons[0])})",
    ]


def _corruption_lines(result: BenchmarkResult, run: Mapping[str, Any], suffix: str) -> list[str]:
    """Return the lines on accuracy and mCE under corruption."""
    lines = [f"- Mean accuracy under corruption: {run[f'corruptions_acc{suffix}']} %"]
    mce = (result.corruption or {}).get("mce")
    if mce is None:
        lines.append("- mCE: none, for want of a reference model's errors on the same images")
    else:
        lines.append(f"- mCE: {run[f'corruptions_mce{suffix}']} % of {mce['reference']}")
    return lines


def _write_tensor(file: Path, ready: PreparedRequest, result: BenchmarkResult) -> list[str]:
    """Write the adversarial images at the first budget as one tensor, without holding them all.

    Returns:
        Their ids, in order; unreadable images are left out.
    """
    epsilon = next(iter(result.attacked))
    stream = AttackedImages(ready.images.clean(None), result.attacked[epsilon])
    n = len(ready.images.ids)
    names: list[str] = []
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        images: Any = None
        for batch, _, ids in stream:
            if images is None:
                shape = (n, *batch.shape[1:])
                images = np.memmap(Path(scratch) / "raw", np.float32, "w+", shape=shape)
            images[len(names) : len(names) + len(batch)] = batch.numpy()
            names += ids
        part = Path(scratch) / file.name
        torch.save(torch.from_numpy(images)[: len(names)], part)
        del images
        os.replace(part, file)  # noqa: PTH105  a move within one folder's file system
    return names
