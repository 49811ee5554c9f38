"""Which coalitions of an image the sampling estimators evaluate, and what follows from them.

Every image gets coalitions of its own, drawn from the seed and the image's digest. So what the
draws add is as independent between images as the images are: it averages out over them, and the
intervals over images contain it. Coalitions shared by all images would leave an error that no
number of images lessens and no interval over images sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import BoolMatrix, chain_coalitions, cyclic_chains, members
from iaside_plugins.shapley.exact import chain_shapley_values
from iaside_plugins.shapley.regression import (
    draw_pairs,
    regression_shapley_values,
    with_complements,
)
from iaside_plugins.spectral.absence import seed_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """Coalitions of one image.

    Attributes:
        coalitions: (R, n_bands), distinct; the empty one first, the grand one last.
        shapley_values: From their values (R,) to an estimate (n_bands,), in the same unit; it
            sums to the value of the grand coalition less that of the empty one.
    """

    coalitions: BoolMatrix
    shapley_values: Callable[[Array], Array]


def draw(protocol: Protocol, digest: str) -> Draw:
    """The coalitions of an image under a protocol with a sampling estimator.

    Args:
        protocol: With estimator "permutation" or "regression".
        digest: Of the image, which together with the protocol's seed decides.
    """
    if protocol.estimator == "regression":
        return _pairs(protocol, digest)
    return _chains(protocol, digest)


def _chains(protocol: Protocol, digest: str) -> Draw:
    """Antithetic cyclic chains; a coalition that several pass is evaluated once."""
    rng = np.random.default_rng(seed_of("chains", protocol.seed, digest))
    chains = cyclic_chains(protocol.n_bands, protocol.n_permutations, rng)
    visited = chain_coalitions(chains)
    distinct, place = np.unique(visited, return_inverse=True)
    return Draw(
        members(distinct, protocol.n_bands),
        lambda values: chain_shapley_values(values[place.reshape(visited.shape)], chains),
    )


def _pairs(protocol: Protocol, digest: str) -> Draw:
    """Pairs of complements for a regression."""
    m = protocol.n_bands
    rng = np.random.default_rng(seed_of("pairs", protocol.seed, digest))
    pairs = draw_pairs(m, protocol.n_coalitions // 2 - 1, rng)
    return Draw(
        members(with_complements(pairs, m), m),
        lambda values: regression_shapley_values(values, pairs, m),
    )
