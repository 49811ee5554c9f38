"""Precisions of the forward passes, and products that stay exact whatever torch's flags say."""

from __future__ import annotations

import torch

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
