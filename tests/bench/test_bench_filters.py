"""The filters of `bench_filters.py` do what they say, and nothing where nothing is perturbed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import oracles
import torch

from iaside_plugins.decomposition.contributions import Condition

WHERE = importlib.util.spec_from_file_location(
    "bench_filters", Path(__file__).with_name("bench_filters.py")
)
bench_filters = importlib.util.module_from_spec(WHERE)
WHERE.loader.exec_module(bench_filters)


def test_nothing_perturbed_is_nothing_repaired():
    images, labels = oracles.sample(4, (16, 16))
    same = {Condition("gaussian_noise", 3): images.clone()}
    found = bench_filters.measure(oracles.TinyNet(), [(images, same, labels, ["a"] * 4)])
    clean, row = found["clean"], found["corruptions"]["gaussian_noise"]
    assert found["n_images"] == 4
    for key in ("error", "low_pass", "median"):
        assert row[key] == clean[key]
    assert row["without_upper"] == row["low_pass_of_perturbation"] == clean["error"]


def test_what_is_in_the_lower_bands_stays_and_what_is_above_goes():
    images, _ = oracles.sample(2, (16, 16))
    for change, left in ((0.2, 0.2), (0.2 * (-1.0) ** torch.arange(16), 0.0)):
        seen = bench_filters.versions(images, images + change)
        gap = seen["without_upper"] - images
        np.testing.assert_allclose(gap, np.full(gap.shape, left), atol=1e-6)


def test_the_low_pass_halves_amplitudes_at_half_of_nyquist():
    wave = torch.cos(2 * torch.pi * bench_filters.HALF_AMPLITUDE * torch.arange(64.0))
    passed = bench_filters.low_pass(wave.expand(1, 1, 64, 64))[0, 0, 32, 8:-8]
    np.testing.assert_allclose(passed, wave[8:-8] / 2, atol=0.01)


def test_the_median_takes_out_single_pixels():
    image = torch.full((1, 3, 9, 9), 0.5)
    image[0, 1, 4, 4] = 1.0
    assert torch.equal(bench_filters.median(image), torch.full((1, 3, 9, 9), 0.5))
