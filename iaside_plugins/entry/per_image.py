"""Which images a proportion counts: bits in Base64, in the order of the images.

The alphabet is the one for URLs (RFC 4648, section 5): no text looks like a path.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
import numpy.typing as npt

MOST = 2_000  # images of which an entry holds them: 75 conditions take 25 kB


def pack_bits(flags: npt.ArrayLike) -> str:
    """Return flags (n,) as bits, eight a byte, the first image in the highest bit."""
    return base64.urlsafe_b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpack_bits(text: str, n: int) -> npt.NDArray[np.bool_]:
    """Return the flags (n,).

    Raises:
        ValueError: Not Base64, or not the bits of n images.
    """
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"expected Base64; {error}") from None
    if len(data) != (size := (n + 7) // 8):
        raise ValueError(f"expected {size} bytes, got {len(data)}")
    flags = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).astype(bool)
    if flags[n:].any():
        raise ValueError(f"expected bits of {n} images, got more")
    return flags[:n]
