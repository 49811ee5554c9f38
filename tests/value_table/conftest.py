"""What the tests of the value table share."""

from __future__ import annotations

import oracles
import pytest

from iaside_plugins import Protocol, SpectralImportance, spectral_importance


@pytest.fixture
def run():
    """A small run, of which one thing at a time is another."""

    def start(model=None, images=None, labels=None, **options) -> SpectralImportance:
        good, targets = oracles.sample(3)
        images = good if images is None else images
        labels = targets[: len(images)] if labels is None else labels
        model = oracles.TinyNet() if model is None else model
        return spectral_importance(model, (images, labels), Protocol(4), **options)

    return start
