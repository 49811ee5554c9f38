"""README's table of guards: every row has tests, of attacks, of evaluations, of the evaluator."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FILES = {
    "attack": "test_foolbox_attacks", "data": "test_robust_evaluation",
    "evaluator": "test_foolbox_evaluator", "found": "test_foolbox_models",
}  # fmt: skip
GUARDS = {  # row of README's table: tests of `adversarial`, `robust_evaluation`, the evaluator
    "inside `no_grad`, `inference_mode`": {
        "attack": "test_guard_modes_of_the_caller", "data": "test_guard_modes_of_the_caller",
        "evaluator": "test_guard_modes_gradients_and_generators",
    },
    "parameter gradients": {
        "attack": "test_guard_parameters", "data": "test_guard_parameters_mode_and_generators",
        "evaluator": "test_guard_modes_gradients_and_generators",
        "found": "test_guard_parameters_that_are_held_elsewhere",
    },
    "label types": {
        "attack": "test_guard_label_types", "data": "test_guard_label_types",
        "evaluator": "test_guard_label_types",
    },
    "labels out of range": {
        "attack": "test_guard_bad_labels", "data": "test_bad_input",
        "evaluator": "test_guard_bad_input",
    },
    "input out of bounds": {
        "attack": "test_guard_bad_images", "data": "test_bad_input",
        "evaluator": "test_guard_bad_input",
    },
    "empty batch": {
        "attack": "test_guard_empty_batch", "data": "test_guard_empty_batches",
        "evaluator": "test_guard_bad_input",
    },
    "training mode": {
        "attack": "test_guard_training_mode", "data": "test_guard_training_mode_and_device",
        "evaluator": "test_guard_training_mode",
        "found": "test_guard_training_mode_that_is_held_elsewhere",
    },
    "half precision": {
        "attack": "test_guard_float32", "data": "test_guard_half_precision",
        "evaluator": "test_guard_half_precision",
        "found": "test_a_half_precision_network_is_found_as_one",
    },
    "device": {
        "attack": "test_guard_device", "data": "test_guard_training_mode_and_device",
        "evaluator": "test_guard_device",
    },
    "randomness": {
        "attack": "test_guard_generators", "data": "test_guard_parameters_mode_and_generators",
        "evaluator": "test_guard_modes_gradients_and_generators",
    },
}  # fmt: skip


def test_the_table_is_readmes():
    readme = (HERE.parent.parent / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| guard | Foolbox alone") :].split("\n\n")[0]
    assert re.findall(r"^\| (.*?) \|", table, re.M)[1:] == list(GUARDS)


@pytest.mark.parametrize("guard", GUARDS)
def test_every_guard_has_tests_that_check_something(guard):
    pytest.importorskip("foolbox", reason="needs the extra foolbox")
    assert {"attack", "data", "evaluator"} <= set(GUARDS[guard])
    for file, name in GUARDS[guard].items():
        test = getattr(importlib.import_module(f"{__package__}.{FILES[file]}"), name)
        tree = ast.parse(textwrap.dedent(inspect.getsource(test)))
        checks = [
            node for node in ast.walk(tree)
            if isinstance(node, ast.Assert)
            or (isinstance(node, ast.Attribute) and node.attr in ("raises", "assert_array_equal"))
        ]  # fmt: skip
        assert checks, f"{name} checks nothing"
