"""The passes that a cost foretells are those that a run makes."""

from __future__ import annotations

import oracles
import pytest

from iaside_plugins import Protocol, spectral_importance
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
