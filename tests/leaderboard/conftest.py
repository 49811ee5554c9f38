"""A synthetic entry whose numbers belong together, made with the package's own functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from iaside_plugins.corruptions.error_rates import load_reference, mean_corruption_error
from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.entry.build import entry_id, mean, proportion, spectral_group
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.storage.files import jsonable

Raw = dict[str, Any]
TABLE = "alexnet_robustbench_5k"
N = 20  # images


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def spectral(rng: np.random.Generator, protocol: Protocol, right: npt.NDArray[np.bool_]) -> Raw:
    n = len(right)
    values = -rng.gamma(2, 1, size=(n, 2**protocol.n_bands))
    exact = protocol.estimator == "exact"
    result = SpectralImportance(
        protocol=protocol,
        per_image=shapley_values(values),
        ends=values[:, [0, -1]],
        values=values if exact else None,
        labels=np.zeros(n, dtype=np.int64),
        ids=tuple(f"image{k}" for k in range(n)),
        correct=right,
        n_classes=10,
        n_forward=n * 2**protocol.n_bands,
        image_size=(32, 32),
        precision="float32",
    )
    return spectral_group(result)


def corruption(rng: np.random.Generator, missing: tuple[str, ...]) -> Raw:
    names = [name for name in load_reference(TABLE).mean_errors if name not in missing]
    conditions = [
        {
            "corruption": name,
            "severity": severity,
            "error": proportion(rng.random(N) < severity / 6, by_image=True),
            "probability_change": mean(rng.random(N)),
        }
        for name in names
        for severity in (1, 2, 3, 4, 5)
    ]
    value = float(np.mean([cell["error"]["value"] for cell in conditions]))
    errors: dict[str, list[float]] = {name: [] for name in names}
    for cell in conditions:
        errors[cell["corruption"]].append(cell["error"]["value"])
    return {
        "source": "generated",
        "size": 224,
        "constants": "224",
        "jpeg": True,
        "seed": 0,
        "n_images": N,
        "uncorrupted_accuracy": proportion(np.arange(N) < 17),
        "conditions": conditions,
        "missing": list(missing),
        "unnormalised_mean_error": {
            "value": value,
            "interval": [value - 0.1, value + 0.1],
            "n": N,
            "n_corruptions": len(names),
        },
        "mce": None
        if missing
        else {
            "value": 1.0,
            "reference": "AlexNet",
            "reference_errors": errors,
        },
        "error_over_published": None
        if missing
        else {
            "value": mean_corruption_error(errors, TABLE),
            "reference": TABLE,
        },
    }


def adversarial(rng: np.random.Generator) -> Raw:
    attacks, worst = [], []
    left = np.ones(N, dtype=bool)
    for epsilon in (1 / 255, 8 / 255):
        fgsm, pgd = rng.random((2, N)) < 0.6
        for name, steps, hits in (("fgsm", None, fgsm), ("pgd", 10, pgd)):
            attacks.append(
                {
                    "name": name,
                    "norm": "Linf",
                    "steps": steps,
                    "rel_stepsize": steps and 0.25,
                    "random_start": steps is not None,
                    "epsilon": epsilon,
                    "accuracy": proportion(hits),
                    "probability_change": mean(rng.random(N)),
                }
            )
        left = left & fgsm & pgd
        worst.append(
            {
                "norm": "Linf",
                "epsilon": epsilon,
                "attacks": ["fgsm", "pgd"],
                "accuracy": proportion(left, by_image=True),
            }
        )
    return {"n_images": N, "seed": 0, "batch_size": 10, "attacks": attacks, "worst_case": worst}


def decomposition(rng: np.random.Generator, protocol: Protocol, conditions: list[Raw]) -> Raw:
    """Of the images of the entry: every condition's error split over bands at random."""
    clean = 2 / N
    splits = []
    for cell in conditions:
        error = cell["error"]["value"]
        bands = rng.dirichlet(np.ones(protocol.n_bands)) * (error - clean)
        splits.append(
            {
                "condition": cell["corruption"],
                "level": float(cell["severity"]),
                "clean": clean,
                "bands": bands,
                "bands_interval": np.stack([bands - 0.1, bands + 0.1], axis=-1),
                "perturbed": error,
            }
        )
    mean_bands = np.mean([one["bands"] for one in splits], axis=0)
    return {
        "protocol": chains_like(protocol).to_dict(),
        "n_images": N,
        "image_ids_sha256": sha256("explained"),
        "n_forward": N * len(splits) * 2 * protocol.n_bands,
        "efficiency_residual": 0.0,
        "mean": {
            "clean": clean,
            "bands": mean_bands,
            "bands_interval": np.stack([mean_bands - 0.05, mean_bands + 0.05], axis=-1),
            "perturbed": float(np.mean([one["perturbed"] for one in splits])),
        },
        "conditions": splits,
    }


def make(
    name: str = "resnet20",
    seed: int = 0,
    *,
    dataset: str = "cifar10",
    protocol: Protocol | None = None,
    missing: tuple[str, ...] = (),
    perturbed: bool = True,
    explained: bool = False,
    n: int = N,
) -> Raw:
    """A valid entry as JSON values; `name` and `seed` decide the weights and the numbers."""
    rng = np.random.default_rng(seed)
    protocol = protocol or Protocol(n_bands=4)
    right = rng.random(n) < 0.9
    entry: Raw = {
        "schema_version": 1,
        "entry_id": entry_id(dataset, name, protocol),
        "model": {
            "spec": "kit:resnet20",
            "name": name,
            "source": "kit",
            "architecture": "ResNet-20",
            "n_parameters": 272474,
            "n_classes": 10,
            "dataset": "cifar10",
            "training": "standard",
            "licence": "MIT",
            "weights": "resnet20.pth",
            "weights_sha256": sha256(f"{name}{seed}"),
            "preprocessing": {
                "resize": None,
                "crop": None,
                "interpolation": "bilinear",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.2, 0.2, 0.2],
            },
        },
        "data": {
            "name": dataset,
            "n_images": n,
            "n_available": 150,
            "n_unreadable": 0,
            "image_ids_sha256": sha256(dataset),
            "seed": 0,
            "note": "the first images",
        },
        "protocol": protocol.to_dict(),
        "clean_accuracy": proportion(right, by_image=True),
        "spectral": spectral(rng, protocol, right),
        "corruption": corruption(rng, missing) if perturbed else None,
        "adversarial": adversarial(rng) if perturbed else None,
        "provenance": {
            "iaside_plugins": "0.1.0",
            "git_commit": "a" * 40,
            "git_dirty": False,
            "date": "2025-03-01T12:00:00Z",
            "python": "3.11.9",
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
            "machine": "x86_64",
        },
        "submission": {"submitter": None, "status": "self-reported", "statement": None},
    }
    if explained:
        group = decomposition(rng, protocol, entry["corruption"]["conditions"])
        entry["decomposition"] = group
    return jsonable(entry)


@pytest.fixture(scope="session")
def make_entry() -> Callable[..., Raw]:
    return make


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., Path]:
    """Writes entries onto a new board and gives its folder."""

    def write(*entries: Raw) -> Path:
        folder = tmp_path / "board"
        (folder / "entries").mkdir(parents=True, exist_ok=True)
        for entry in entries:
            file = folder / "entries" / entry["data"]["name"] / f"{entry['entry_id']}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(entry), encoding="utf-8")
        return folder

    return write
