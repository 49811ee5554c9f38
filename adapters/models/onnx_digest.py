"""The digest of an ONNX file and of the files beside it that hold its weights."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from pathlib import Path

from iaside_plugins.adapters.models.weights import file_sha256

# In the encoding of an ONNX file: the key "location", and the length of the name that follows.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)


def onnx_sha256(file: Path) -> str:
    """Return the SHA-256 of an ONNX file, with the digests of the files that hold its weights."""
    parts = [file, *_external(file)]
    digests = [file_sha256(part) for part in parts]
    return digests[0] if len(parts) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _external(file: Path) -> list[Path]:
    """Return the files beside an ONNX file that it has its weights in, by name.

    They are looked for in its bytes, so that the digest is one and the same without the library
    onnx.
    """
    names = set()
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as held,
    ):
        for found in _LOCATION.finditer(held):
            length = sum((byte & 127) << 7 * k for k, byte in enumerate(found[1]))
            names.add(held[found.end() : found.end() + length].decode("utf-8", "replace"))
    paths = [file.parent / name for name in sorted(names)]
    return [path for path in paths if os.path.isfile(path)]  # noqa: PTH113  any name is a question
