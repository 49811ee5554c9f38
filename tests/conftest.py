"""Shared fixtures: the kit of real images and weights, and one CPU thread for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # two threads are slower than one on the small tensors of the tests


@pytest.fixture(scope="session")
def kit() -> Path:
    """The kit's folder; tests that need it are skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("IASIDE_KIT", ROOT.parent / "shared" / "kit"))
    if not (folder / "models.json").is_file():
        pytest.skip(f"the kit is not at {folder}; set IASIDE_KIT")
    return folder
