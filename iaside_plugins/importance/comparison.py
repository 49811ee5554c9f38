"""Two models on the same images: paired differences, each with its interval over images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from iaside_plugins.errors import InputError
from iaside_plugins.importance import ties
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.score import importance_distribution, score, signed_score
from iaside_plugins.stats.intervals import jackknife
from iaside_plugins.storage.files import jsonable

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """First model minus second, on the same images; intervals are 95 % paired jackknife.

    Those of the scores are wider where bands tie at a model's minimum (see `ties`).

    Attributes:
        n_images: Number of images K.
        protocol: The protocol of both results.
        shapley_difference: (M,) in nats, with interval (M, 2).
        distribution_difference: (M,), shares, with interval (M, 2).
        score_difference: With interval (2,).
        signed_score_difference: With interval (2,).
    """

    n_images: int
    protocol: Protocol
    shapley_difference: Array
    shapley_difference_interval: Array
    distribution_difference: Array
    distribution_difference_interval: Array
    score_difference: float
    score_difference_interval: Array
    signed_score_difference: float
    signed_score_difference_interval: Array

    def to_dict(self) -> dict[str, Any]:
        """Attributes by name, as JSON values."""
        return {**jsonable(vars(self)), "protocol": self.protocol.to_dict()}

    def to_frame(self) -> pd.DataFrame:
        """One row a band: differences of Shapley values and of shares, with intervals."""
        return pd.DataFrame(
            {
                "band": np.arange(self.protocol.n_bands),
                "shapley_difference": self.shapley_difference,
                "shapley_low": self.shapley_difference_interval[:, 0],
                "shapley_high": self.shapley_difference_interval[:, 1],
                "share_difference": self.distribution_difference,
                "share_low": self.distribution_difference_interval[:, 0],
                "share_high": self.distribution_difference_interval[:, 1],
            }
        )


def compare(first: SpectralImportance, second: SpectralImportance) -> Comparison:
    """Paired differences (first minus second) of two models on the same images.

    Models may differ in input size as long as the images carry names (`ids`) that say they are
    the same; images without names are known by the digest of their pixels.

    Raises:
        InputError: If the images or the protocols differ.
    """
    if first.protocol.protocol_id != second.protocol.protocol_id:
        raise InputError(
            f"results of different protocols cannot be compared: {first.protocol.protocol_id} "
            f"and {second.protocol.protocol_id}"
        )
    if first.ids != second.ids:
        shared = len(set(first.ids) & set(second.ids))
        raise InputError(
            f"expected the same images in the same order, got {first.n_images} and "
            f"{second.n_images} with {shared} in common; for models of different input size pass "
            "batches of (images, labels, ids)"
        )
    m, beta = first.protocol.n_bands, first.protocol.beta
    psi = first.per_image, second.per_image
    rows = np.concatenate(psi, axis=1)

    def difference(statistic: Any) -> Any:
        return jackknife(rows, lambda x: statistic(x[..., :m]) - statistic(x[..., m:]))

    shapley = difference(lambda x: x)
    shares = difference(importance_distribution)
    plain = ties.difference(*psi, lambda shares: score(shares, beta))
    signed = ties.difference(*psi, lambda shares: signed_score(shares, beta))
    return Comparison(
        n_images=first.n_images,
        protocol=first.protocol,
        shapley_difference=shapley.value,
        shapley_difference_interval=shapley.interval,
        distribution_difference=shares.value,
        distribution_difference_interval=shares.interval,
        score_difference=float(plain.value),
        score_difference_interval=plain.interval,
        signed_score_difference=float(signed.value),
        signed_score_difference_interval=signed.interval,
    )
