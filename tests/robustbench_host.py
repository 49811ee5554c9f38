"""RobustBench itself, mended so that it imports; tests that import this are skipped without it."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from iaside_plugins.adapters.compat import import_robustbench

if importlib.util.find_spec("robustbench") is None:  # to import it here it must be mended first
    pytest.skip("RobustBench is not installed (extra robustbench)", allow_module_level=True)

import_robustbench()
data = importlib.import_module("robustbench.data")
enums = importlib.import_module("robustbench.model_zoo.enums")
evaluation = importlib.import_module("robustbench.eval")
utils = importlib.import_module("robustbench.utils")
transforms = importlib.import_module("torchvision.transforms")
