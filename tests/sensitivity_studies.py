"""Small sensitivity studies from random value tables."""

from __future__ import annotations

import numpy as np

from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.sensitivity.design import make_design
from iaside_plugins.sensitivity.report import SensitivityReport, StudiedModel
from iaside_plugins.shapley.exact import shapley_values

N, K, M = 6, 10, 3
LEVELS = {"range_handling": ["clip"], "beta": [0.5]}
RETAINED = ("retained Linf 2/255", "retained Linf 8/255")


def result(values: np.ndarray, protocol: Protocol) -> SpectralImportance:
    """A result of value tables (K, 2**n_bands)."""
    return SpectralImportance(
        protocol=protocol,
        per_image=shapley_values(values),
        ends=values[:, [0, -1]],
        values=values,
        labels=np.zeros(len(values), dtype=np.int64),
        ids=tuple(f"image {k}" for k in range(len(values))),
        correct=np.arange(len(values)) % 2 == 0,
        n_classes=10,
        n_forward=0,
        image_size=(16, 16),
        precision="float64",
    )


def make_report(n: int = N, entries: bool = True, seed: int = 0) -> SensitivityReport:
    """Four variants of n models on `K` images; entries say random accuracies."""
    rng = np.random.default_rng(seed)
    design = make_design(Protocol(n_bands=M), LEVELS)
    models = []
    for k in range(n):
        tables = {r: -rng.random((K, 2**M)) * 3 for r in ("none", "clip")}
        results = tuple(
            result(tables[v.protocol.range_handling], v.protocol) for v in design.variants()
        )
        said = {name: float(rng.random()) for name in ("clean accuracy", *RETAINED)}
        models.append(StudiedModel(f"model {k}", results, None, said if entries else {}))
    return SensitivityReport(design, tuple(models))
