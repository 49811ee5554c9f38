"""The passes that a cost foretells are those that a run makes."""

from __future__ import annotations

import oracles
import pytest

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.robustbench_adapter.__main__ import _options
from iaside_plugins.adapters.robustbench_adapter.cost import SHORTER
from iaside_plugins.display.errors import with_options
from iaside_plugins.value_table.layout import RowLayout


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(5),
        Protocol(8, estimator="permutation", n_permutations=3),
        Protocol(8, estimator="regression", n_coalitions=66),
    ],
    ids=lambda protocol: protocol.estimator,
)
def test_passes_of_an_image(protocol):
    recorder = oracles.Recorder()
    found = spectral_importance(recorder, oracles.sample(4, (16, 16)), protocol)
    assert found.n_forward == 4 * RowLayout(protocol).n_passes + 1  # one black image for all


@pytest.mark.parametrize("part", SHORTER)
def test_advice_names_arguments_in_python_and_flags_at_the_command(part):
    assert "--" not in SHORTER[part]
    command = with_options(SHORTER[part], _options())
    assert "--n_" in command
    assert "=" not in command
