"""Seeds made from text: the same in every process, order and machine."""

from __future__ import annotations

import hashlib


def seed_of(*parts: object) -> int:
    """Return a seed in [0, 2**63) made from any parts, joined as text with ``|``."""
    return seed_of_text("|".join(str(part) for part in parts), 63)


def seed_of_text(text: str, bits: int) -> int:
    """Return the first `bits` bits (64 at most) of the SHA-256 of a text, as an integer."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)
