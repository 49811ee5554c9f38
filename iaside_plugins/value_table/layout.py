"""What a stored row holds, and where.

A row holds, for each coalition, the log-likelihood and the hit (whether it is classified
correctly); under a sampling estimator only those of the empty and the grand coalition, and the
Shapley values of both games.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import nested_coalitions
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.value_table.sampling import Draw, draw, with_nested

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class UnpackedRows:
    """What K rows hold, over M bands.

    Attributes:
        values: Log-likelihoods of all coalitions (K, 2**M) in nats; None unless exact.
        hits: Whether each coalition is classified correctly (K, 2**M); None unless exact.
        ends: Log-likelihoods of the empty and the grand coalition (K, 2).
        shapley_values: Of the log-likelihood (K, M), in nats.
        hit_ends: Whether the empty and the grand coalition are classified correctly (K, 2).
        hit_shapley_values: Of the hit (K, M): shares of accuracy.
        energy: Squared norm of each band of image minus donor (K, M), or (K, 0) if not kept.
        nested: Log-likelihoods of `nested_coalitions` (K, 2 M - 2); None without them.
        nested_hits: Their hits, 1 or 0.
    """

    values: Array | None
    hits: Flags | None
    ends: Array
    shapley_values: Array
    hit_ends: Flags
    hit_shapley_values: Array
    energy: Array
    nested: Array | None
    nested_hits: Array | None


@dataclass(frozen=True)
class RowLayout:
    """What the rows of a protocol hold, and where.

    Attributes:
        protocol: The choices that change a number.
        nested: Whether a sampling estimator evaluates `nested_coalitions` too.
        paired: Whether images are perturbed versions of their donors, one donor after the other:
            the energy by band of their difference is kept, and a donor runs once.
    """

    protocol: Protocol
    nested: bool = False
    paired: bool = False

    @property
    def width(self) -> int:
        """Numbers in one row."""
        return sum(self._widths())

    def draw(self, digest: str) -> Draw:
        """Return the coalitions of an image, see `sampling.draw`."""
        drawn = draw(self.protocol, digest)
        return with_nested(drawn) if self._own_nested else drawn

    @property
    def _own_nested(self) -> bool:
        return self.nested and self.protocol.estimator != "exact"

    @property
    def n_passes(self) -> int:
        """Forward passes of an image, without the empty coalition, which may be shared."""
        return len(self.draw("some image").coalitions) - 1

    def _widths(self) -> list[int]:
        """Return the widths of a row's parts: head, values, hits, nested, nested hits, energy."""
        m = self.protocol.n_bands
        n_nested = 2 * m - 2 if self._own_nested else 0
        main = [2**m, n_words(2**m)] if self.protocol.estimator == "exact" else [2 + m, 2 + m]
        return [1, *main, n_nested, n_words(n_nested), m if self.paired else 0]

    def pack(
        self, n_classes: int, drawn: Sequence[Draw], values: Array, hits: Flags, energy: Array
    ) -> Array:
        """Return rows (K, width).

        Args:
            n_classes: Number of the model's outputs.
            drawn: The draw of each image.
            values: Log-likelihoods (K, R) of the coalitions drawn.
            hits: Whether they are classified correctly (K, R).
            energy: Squared norm of each band of image minus donor (K, M).
        """
        parts = [np.full((len(values), 1), float(n_classes))]
        if self.protocol.estimator == "exact":
            parts += [values, pack_flags(hits)]
        else:
            for game in (values, hits.astype(np.float64)):
                found = [one.shapley_values(v) for one, v in zip(drawn, game, strict=True)]
                parts.append(np.concatenate([game[:, [0, -1]], np.stack(found)], axis=1))
        if self._own_nested:
            inner = slice(-1 - (2 * self.protocol.n_bands - 2), -1)
            parts += [values[:, inner], pack_flags(hits[:, inner])]
        if self.paired:
            parts.append(energy)
        return np.concatenate(parts, axis=1)

    def unpack(self, rows: Array) -> UnpackedRows:
        """Return what rows (K, width) hold."""
        cuts = np.cumsum(self._widths())[:-1]
        _, main, hit_part, nested, nested_part, energy = np.split(rows, cuts, axis=1)
        m = self.protocol.n_bands
        values = hits = None
        if self.protocol.estimator == "exact":
            values, hits = main, unpack_flags(hit_part, 2**m)
            ends, shapley = values[:, [0, -1]], shapley_values(values)
            hit_ends, hit_shapley = hits[:, [0, -1]], shapley_values(hits)
            inner = nested_coalitions(m)
            nested, nested_flags = values[:, inner], hits[:, inner]
        else:
            ends, shapley = main[:, :2], main[:, 2:]
            hit_ends, hit_shapley = hit_part[:, :2] > 0, hit_part[:, 2:]
            nested_flags = unpack_flags(nested_part, nested.shape[1])
        return UnpackedRows(
            values,
            hits,
            ends,
            shapley,
            hit_ends,
            hit_shapley,
            energy=energy,
            nested=nested if self.nested else None,
            nested_hits=nested_flags.astype(np.float64) if self.nested else None,
        )


def n_words(n_flags: int) -> int:
    """Return how many numbers hold so many flags, 32 in each."""
    return -(-n_flags // 32)


def pack_flags(flags: Flags) -> Array:
    """Return flags (K, F) as numbers (K, n_words(F)), 32 flags in each, the first the lowest."""
    n = n_words(flags.shape[1])
    padded = np.zeros((len(flags), n, 32))
    padded.reshape(len(flags), -1)[:, : flags.shape[1]] = flags
    return np.asarray(padded @ 2.0 ** np.arange(32))


def unpack_flags(words: Array, n_flags: int) -> Flags:
    """Return the flags (K, n_flags) that `pack_flags` packed."""
    bits = words.astype(np.int64)[:, :, None] >> np.arange(32) & 1
    return np.asarray(bits.reshape(len(words), -1)[:, :n_flags] > 0)
