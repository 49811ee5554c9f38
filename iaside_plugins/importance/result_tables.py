"""A SpectralImportance as tables: by band, by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from iaside_plugins.importance.result import SpectralImportance


def band_table(result: SpectralImportance) -> pd.DataFrame:
    """One row a band: range in cycles/image, Shapley value, standard error, share, interval."""
    edges = result.band_edges()
    return pd.DataFrame(
        {
            "band": np.arange(result.protocol.n_bands),
            "low": edges[:-1],
            "high": edges[1:],
            "shapley_value": result.shapley_values,
            "se": result.shapley_se,
            "share": result.distribution,
            "share_low": result.distribution_interval[:, 0],
            "share_high": result.distribution_interval[:, 1],
        }
    )


def class_table(result: SpectralImportance) -> pd.DataFrame:
    """One row a class: label, n_images, accuracy, then Shapley values and standard errors.

    `band_i` is the mean over the class's images and `se_i` its standard error, in nats; NaN
    for a single image.
    """
    bands = range(result.protocol.n_bands)
    frame = pd.DataFrame(result.per_image, columns=[f"band_{i}" for i in bands])
    grouped = frame.groupby(result.labels)
    errors = grouped.sem().rename(columns={f"band_{i}": f"se_{i}" for i in bands})
    out = pd.concat([grouped.mean(), errors], axis=1).rename_axis("label").reset_index()
    accuracy = pd.Series(result.correct.astype(float)).groupby(result.labels).mean()
    out.insert(1, "n_images", grouped.size().to_numpy())
    out.insert(2, "accuracy", accuracy.to_numpy())
    return out
