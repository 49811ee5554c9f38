"""Which coalitions of an image an estimator evaluates, and how its Shapley values follow from them.

Under a sampling estimator every image gets coalitions of its own, drawn from the seed and the
image's digest. So what the draws add is as independent between images as the images are: it
averages out over them, and the intervals over images contain it. Coalitions shared by all images
would leave an error that no number of images lessens and no interval over images sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iaside_plugins.protocol import OF_PAIRS, Protocol
from iaside_plugins.seeds import seed_of
from iaside_plugins.shapley.coalitions import (
    BoolMatrix,
    all_coalitions,
    chain_coalitions,
    cyclic_chains,
    members,
    nested_coalitions,
)
from iaside_plugins.shapley.exact import chain_shapley_values, shapley_values
from iaside_plugins.shapley.gaussian_process import gaussian_process_shapley_values
from iaside_plugins.shapley.regression import (
    draw_pairs,
    regression_shapley_values,
    with_complements,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """Coalitions of one image.

    Attributes:
        coalitions: (R, n_bands); the empty one first, the grand one last.
        shapley_values: From their values (..., R) to Shapley values (..., n_bands), in the same
            unit; they sum to the value of the grand coalition less that of the empty one.
    """

    coalitions: BoolMatrix
    shapley_values: Callable[[Array], Array]


def draw(protocol: Protocol, digest: str) -> Draw:
    """Return the coalitions of an image under a protocol.

    Args:
        protocol: With any estimator.
        digest: Of the image, which together with the protocol's seed decides what is drawn.
    """
    if protocol.estimator == "exact":
        return exact_draw(protocol.n_bands)
    if protocol.estimator in OF_PAIRS:
        return _pairs(protocol, digest)
    rng = np.random.default_rng(seed_of("chains", protocol.seed, digest))
    return chain_draw(cyclic_chains(protocol.n_bands, protocol.n_permutations, rng))


def with_nested(drawn: Draw) -> Draw:
    """Return a draw that evaluates `nested_coalitions` too, in the places before the last one."""
    bands = drawn.coalitions.shape[1]
    nested = members(nested_coalitions(bands), bands)
    grand = len(drawn.coalitions) - 1

    def shapley_values(values: Array) -> Array:
        kept = np.concatenate([values[..., :grand], values[..., -1:]], axis=-1)
        return drawn.shapley_values(kept)

    coalitions = np.concatenate([drawn.coalitions[:grand], nested, drawn.coalitions[grand:]])
    return Draw(coalitions, shapley_values)


def exact_draw(n_bands: int) -> Draw:
    """Return all coalitions, for exact Shapley values."""
    return Draw(all_coalitions(n_bands), shapley_values)


def chain_draw(chains: npt.NDArray[np.int64]) -> Draw:
    """Return the coalitions along chains (n_chains, n_bands), each once, for their estimate."""
    along = chain_coalitions(chains)
    distinct, place = np.unique(along, return_inverse=True)
    return Draw(
        members(distinct, chains.shape[1]),
        lambda values: chain_shapley_values(values[..., place.reshape(along.shape)], chains),
    )


def _pairs(protocol: Protocol, digest: str) -> Draw:
    """Return pairs of complements, for a regression or a Gaussian process."""
    m = protocol.n_bands
    by_regression = protocol.estimator == "regression"
    estimate = regression_shapley_values if by_regression else gaussian_process_shapley_values
    rng = np.random.default_rng(seed_of("pairs", protocol.seed, digest))
    pairs = draw_pairs(m, protocol.n_coalitions // 2 - 1, rng)
    return Draw(
        members(with_complements(pairs, m), m),
        lambda values: estimate(values, pairs, m),
    )
