"""README's table of guards: every row has tests, of attacks, of evaluations, of the evaluator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
GUARDS = {  # row of README's table: tests of `adversarial`, `robust_evaluation`, the evaluator
    "inside `no_grad`, `inference_mode`": (
        "test_guard_modes_of_the_caller", "test_guard_modes_of_the_caller",
        "test_guard_modes_gradients_and_generators",
    ),
    "parameter gradients": (
        "test_guard_parameters", "test_guard_parameters_mode_and_generators",
        "test_guard_modes_gradients_and_generators",
    ),
    "label types": ("test_guard_label_types",) * 3,
    "input out of bounds": ("test_guard_bad_images", "test_bad_input", "test_guard_bad_input"),
    "empty batch": (
        "test_guard_empty_batch", "test_guard_empty_batches", "test_guard_bad_input",
    ),
    "training mode": (
        "test_guard_training_mode", "test_guard_training_mode_and_device",
        "test_guard_training_mode",
    ),
    "half precision": (
        "test_guard_float32", "test_guard_half_precision", "test_guard_half_precision",
    ),
    "device": ("test_guard_device", "test_guard_training_mode_and_device", "test_guard_device"),
    "randomness": (
        "test_guard_generators", "test_guard_parameters_mode_and_generators",
        "test_guard_modes_gradients_and_generators",
    ),
}  # fmt: skip
FILES = ("test_foolbox_attacks.py", "test_robust_evaluation.py", "test_foolbox_evaluator.py")


def test_the_table_is_readmes():
    readme = (HERE.parent.parent / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| guard | Foolbox alone") :].split("\n\n")[0]
    assert re.findall(r"^\| (.*?) \|", table, re.M)[1:] == list(GUARDS)


@pytest.mark.parametrize("guard", GUARDS)
def test_every_guard_has_its_tests(guard):
    for name, file in zip(GUARDS[guard], FILES, strict=True):
        text = (HERE / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", text, re.M), f"{file} has no {name}"
