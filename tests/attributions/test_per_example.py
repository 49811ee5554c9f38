"""Shapley values of single examples: known games, oracles, sampling, and what is refused."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, SpectralPartition
from iaside_plugins.attributions.per_example import (
    Example,
    check_rows,
    class_log_likelihoods,
    example_shapley_values,
)
from iaside_plugins.shapley.coalitions import cyclic_chains
from iaside_plugins.value_table.sampling import chain_draw, exact_draw

M = 4
ALL = exact_draw(M)
INDEX = SpectralPartition(M).index(12, 11)


def present(batch: torch.Tensor) -> torch.Tensor:
    """Which bands an image holds, (N, M) as 0 and 1."""
    return (SpectralPartition(M).energy(batch) > 1e-6).double()


def shapley(game, n: int = 2, **options) -> np.ndarray:
    """Values of a game of the bands that are present."""
    images, _ = oracles.sample(n, (12, 11), dtype=torch.float64)
    one = Example(images, None, INDEX)
    found = example_shapley_values(lambda batch, _: game(present(batch[0])), [one], ALL, **options)
    assert found.dtype == torch.float64
    return found.numpy()


@pytest.mark.parametrize("per_pass", [1, 3, 16, 100])
def test_an_additive_game_gives_every_band_its_own(per_pass):
    weights = torch.tensor([2.0, -1.0, 0.0, 5.0], dtype=torch.float64)
    found = shapley(lambda z: z @ weights, per_pass=per_pass)
    np.testing.assert_allclose(found, [weights.tolist()] * 2, atol=1e-12)


def test_and_and_or_share_equally_and_a_dummy_gets_nothing():
    both = shapley(lambda z: z[:, 0] * z[:, 2])
    np.testing.assert_allclose(both, [[0.5, 0, 0.5, 0]] * 2, atol=1e-12)
    either = shapley(lambda z: torch.maximum(z[:, 1], z[:, 3]))
    np.testing.assert_allclose(either, [[0, 0.5, 0, 0.5]] * 2, atol=1e-12)
    assert both[0, 1] == 0, "a band that changes nothing gets exactly zero"


def test_values_of_any_shape_keep_it():
    found = shapley(lambda z: torch.stack([z[:, 0], 2 * z[:, 1], z.sum(dim=1)], dim=1))
    expected = [[1, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (8, 11)])
@pytest.mark.parametrize("baseline", [None, 0.4])
def test_equal_to_the_oracle_in_double(size, baseline):
    net = oracles.TinyNet().double()
    images, labels = oracles.sample(3, size, dtype=torch.float64)
    baselines = None if baseline is None else torch.full_like(images, baseline)
    index = SpectralPartition(3).index(*size)

    def value(batch, times):
        out = net(batch[0]).log_softmax(dim=1)
        return out[torch.arange(len(out)), labels.repeat_interleave(times)]

    found = example_shapley_values(
        value, [Example(images, baselines, index)], exact_draw(3), per_pass=3
    )
    table = oracles.value_table(
        net,
        images.numpy(),
        labels,
        3,
        baselines=None if baselines is None else baselines.numpy(),
    )
    expected = [oracles.shapley_by_orders(row) for row in table]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)  # double throughout


def test_chains_of_all_orders_give_the_exact_values():
    from itertools import permutations

    net = oracles.TinyNet().double()
    images, _ = oracles.sample(2, (12, 11), dtype=torch.float64)
    one = Example(images, None, INDEX)

    def value(batch, _):
        return net(batch[0])

    exact = example_shapley_values(value, [one], ALL)
    chains = np.array(list(permutations(range(M))))
    sampled = example_shapley_values(value, [one], chain_draw(chains), per_pass=5)
    np.testing.assert_allclose(sampled.numpy(), exact.numpy(), rtol=0, atol=1e-12)
    assert sampled.shape == (2, 3, M)


def test_sampled_values_are_unbiased_and_efficient():
    net = oracles.TinyNet().double()
    images, _ = oracles.sample(1, (12, 11), dtype=torch.float64)
    one = Example(images, None, INDEX)
    calls = []

    def value(batch, times):
        calls.append(times)
        return net(batch[0])[:, 0]

    exact = example_shapley_values(value, [one], ALL).numpy()[0]
    draws = np.stack(
        [
            example_shapley_values(
                value, [one], chain_draw(cyclic_chains(M, 1, np.random.default_rng(seed))[:1])
            ).numpy()[0]
            for seed in range(400)
        ]
    )
    np.testing.assert_allclose(draws.sum(axis=1), exact.sum(), atol=1e-12)
    se = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    # four z-scores of independent seeds: 4 s.e. is passed by chance once in 4,000 runs
    assert np.all(np.abs(draws.mean(axis=0) - exact) < 4 * se)
    assert np.all(se > 0)


def test_every_pass_is_told_and_no_row_is_evaluated_twice():
    seen, told = [], []
    images, _ = oracles.sample(2, (12, 11))
    one = Example(images, None, INDEX)

    def value(batch, times):
        seen.append(len(batch[0]))
        assert times == len(batch[0]) // 2
        return batch[0].mean(dim=(1, 2, 3))

    example_shapley_values(value, [one], ALL, per_pass=6, on_pass=lambda: told.append(1))
    assert seen == [12, 12, 8]
    assert len(told) == 3


def test_the_grand_coalition_is_the_image_itself_and_the_empty_one_the_baseline():
    seen = []
    images, _ = oracles.sample(2, (12, 11))
    baselines = torch.rand(2, 3, 12, 11, generator=torch.Generator().manual_seed(0))

    def value(batch, _):
        seen.append(batch[0].clone())
        return batch[0].mean(dim=(1, 2, 3))

    example_shapley_values(value, [Example(images, baselines, INDEX)], ALL)
    assert torch.equal(seen[0], baselines)
    assert torch.equal(seen[-1], images)


def test_half_precision_images_reach_the_model_as_such():
    images, _ = oracles.sample(1, (12, 11))
    half = images.bfloat16()

    def value(batch, _):
        assert batch[0].dtype == torch.bfloat16
        return batch[0].float().mean(dim=(1, 2, 3))

    found = example_shapley_values(value, [Example(half, None, INDEX)], ALL)
    whole = example_shapley_values(value_of_mean, [Example(half.float(), None, INDEX)], ALL)
    # bfloat16 keeps 8 bits: pixels in [0, 1] are rounded by at most 2**-9
    np.testing.assert_allclose(found.numpy(), whole.numpy(), atol=2**-9)


def value_of_mean(batch, _):
    """Mean brightness."""
    return batch[0].mean(dim=(1, 2, 3))


def test_a_value_that_is_not_finite_is_named():
    def value(batch, _):
        z = present(batch[0])
        bad = (z[:, 1] == 1) & (z[:, 2] == 1) & (z[:, 3] == 0) & (z[:, 0] == 0)
        out = torch.where(bad, torch.nan, z.sum(dim=1))
        out[: len(out) // 2] = 0  # only the second example
        return out

    images, _ = oracles.sample(2, (12, 11), dtype=torch.float64)
    with pytest.raises(InputError, match=r"example 1, coalition of bands \[1, 2\]"):
        example_shapley_values(value, [Example(images, None, INDEX)], ALL, per_pass=4)


def test_outputs_of_one_number_or_more_axes_are_refused():
    with pytest.raises(InputError, match=r"shape \(6, ...\), got \(\)"):
        check_rows(torch.tensor(1.0), 6)
    with pytest.raises(InputError, match=r"got \(1,\).*one number for the whole batch"):
        check_rows(torch.ones(1), 6)
    with pytest.raises(InputError, match="got float"):
        check_rows(0.5, 6)
    with pytest.raises(InputError, match=r"\(6, 4, 2\).*value_fn"):
        class_log_likelihoods(torch.ones(6, 4, 2))
    with pytest.raises(InputError, match="at least 2 classes"):
        class_log_likelihoods(torch.ones(6, 1))
    assert torch.equal(class_log_likelihoods(torch.ones(6)), torch.ones(6))
    np.testing.assert_allclose(class_log_likelihoods(torch.ones(6, 4)).exp().sum(dim=1), 1)
