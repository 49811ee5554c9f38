"""Answers image by image as short text: bits or small counts in Base64, in the images' order.

The alphabet is the one for URLs (RFC 4648, section 5): no text looks like a path.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
import numpy.typing as npt

GREATEST_COUNT = 255
MOST = 10_000  # images of which an entry holds them: 1.7 kB of bits, 13.4 kB of counts


def pack_bits(flags: npt.ArrayLike) -> str:
    """Return flags (n,) as bits, eight a byte, the first image in the highest bit."""
    return base64.urlsafe_b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpack_bits(text: str, n: int) -> npt.NDArray[np.bool_]:
    """Return the flags (n,).

    Raises:
        ValueError: Not Base64, or not the bits of n images.
    """
    data = _bytes(text, (n + 7) // 8)
    flags = np.unpackbits(data).astype(bool)
    if flags[n:].any():
        raise ValueError(f"expected bits of {n} images, got more")
    return flags[:n]


def pack_counts(counts: npt.ArrayLike) -> str:
    """Return counts (n,) of 0 to 255, one byte each."""
    return base64.urlsafe_b64encode(np.asarray(counts).astype(np.uint8).tobytes()).decode()


def unpack_counts(text: str, n: int) -> npt.NDArray[np.uint8]:
    """Return the counts (n,).

    Raises:
        ValueError: Not Base64, or not the counts of n images.
    """
    return _bytes(text, n)


def _bytes(text: str, size: int) -> npt.NDArray[np.uint8]:
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"expected Base64; {error}") from None
    if len(data) != size:
        raise ValueError(f"expected {size} bytes, got {len(data)}")
    return np.frombuffer(data, dtype=np.uint8)
