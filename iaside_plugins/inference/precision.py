"""Precisions of the forward passes, and products that stay exact whatever torch's flags say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@contextmanager
def exact_product() -> Iterator[None]:
    """Matrix products in full float32: TF32 or bfloat16 would round the coalition images.

    Touches torch's flags only where they allow rounding, and puts them back.
    """
    flags: Any = torch.backends
    backends: list[Any] = [getattr(kind, "matmul", None) for kind in (flags.cuda, flags.mkldnn)]
    if not all(hasattr(backend, "fp32_precision") for backend in backends):
        precision = torch.get_float32_matmul_precision()  # torch before 2.9
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
        return
    general = flags.fp32_precision
    before = [(backend, backend.fp32_precision) for backend in backends]
    loose = [
        (backend, own)
        for backend, own in before
        if (general if own == "none" else own) in ("tf32", "bf16")
    ]
    for backend, _ in loose:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, own in loose:
            backend.fp32_precision = own
