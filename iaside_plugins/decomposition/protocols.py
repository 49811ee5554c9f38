"""The protocol of a decomposition, and the engine's, which makes its rows."""

from __future__ import annotations

from dataclasses import replace

from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS

DEFAULT = Protocol(estimator="permutation")


def check_protocol(protocol: Protocol) -> None:
    """Raise InputError for choices under which the end of a game is not the benchmark's image."""
    if protocol.is_script or RANGE_HANDLINGS[protocol.range_handling].changes_images:
        raise InputError(
            f"range_handling={protocol.range_handling!r} changes the perturbed images, so that "
            "their error would not be the benchmark's; use 'none' or 'clip'"
        )
    if protocol.absence != "zero":
        raise InputError(
            f"absence={protocol.absence!r} does not go with error_decomposition, where the clean "
            "image stands in for a band that is not perturbed; leave absence out"
        )


def chains_like(protocol: Protocol) -> Protocol:
    """Return the protocol of a decomposition beside an importance: its bands, seed and forwards."""
    return replace(
        DEFAULT,
        n_bands=protocol.n_bands,
        band_norm="chebyshev" if protocol.band_norm == "boxes" else protocol.band_norm,
        temperature=protocol.temperature,
        seed=protocol.seed,
        forwards=protocol.forwards,
    )


def engine_of(protocol: Protocol) -> Protocol:
    """Return the protocol by which the engine makes the rows of a decomposition."""
    # The engine's name for "the given image stands in for the missing bands", for all of them too.
    return replace(protocol, absence="replacement", black_empty=False)
