"""A few of the calls of `bench_cli_fuzz.py`: each ends with figures, or one line and exit 2."""

from __future__ import annotations

import random

import pytest
from cli_fuzz import MODEL_NAMES, NOT_CALLED, USUAL, VALUES, commands, drawn, make_inputs, run

from iaside_plugins.display.errors import LONGEST, one_line


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("fuzz") / "inputs")


CALLS = [  # found by the fuzz
    "sensitivity python:odd_nets:late --data images --n-bands 2 --range-handling none --absence "
    "zero --band-norm chebyshev --temperature 1 --beta 0.75",
    "heatmap python:odd_nets:one_row --data images --n-bands 2 --precision bfloat16 --grid 4",
    "compare python:odd_nets:huge --data images --n-bands 2 --methods saliency",
    "profile python:odd_nets:sound --data images --n-bands 1000000",
    "compare python:odd_nets:constant --data images --n-bands 2 --methods saliency",
    "sensitivity python:odd_nets:complex_ --data images --n-bands 2 --absence zero --beta 0.5",
    *(
        f"evaluate python:odd_nets:{name} --data images --n-bands 2 --out o.json "
        "--corruptions none --attacks fgsm --epsilons 8/255"
        for name in ("integers", "no_gradient", "bad_backward")
    ),
    "spectrum --data images --n-bands 2 --corruptions brightness --severities 1 --plot plot.png",
    f"doctor {'[' * 2000}",
    "evaluate python:odd_nets:empty --data images --n-bands 2 --out o.json --corruptions none "
    "--attacks fgsm --epsilons 8/255",
    "compare python:odd_nets:bad_backward --data images --n-bands 2 --methods saliency "
    "--n-sensitivity 1",
    "sensitivity python:tiny_model:network --data images --n-bands 2 --n-images 1 --absence zero "
    "--range-handling none --band-norm chebyshev",
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call.split()[:2])[:40])
def test_calls_that_went_wrong(inputs, call):
    found = run(tuple(call.split()), inputs)
    assert not found.faults(), found


def test_every_command_is_drawn_with_sound_arguments():
    found = commands()
    assert set(found) == set(USUAL) | NOT_CALLED
    for name in USUAL:
        arguments = [p.name for p in found[name].params if p.param_type_name == "argument"]
        assert set(arguments) <= {*MODEL_NAMES, *VALUES}


def test_seeded_calls(inputs):
    for k in range(6):
        found = run(drawn(random.Random(f"0 {k}")), inputs)
        assert not found.faults(), (k, found)


def test_long_messages_are_cut_to_a_line():
    assert one_line("a message\nas it  is") == "a message as it is"
    assert len(one_line("word " * 5000)) <= LONGEST
