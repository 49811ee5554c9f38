"""What stands in for a missing band depends on the image and the seed, and on nothing else."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.seeds import seed_of
from iaside_plugins.spectral.absence import ABSENCES, Absence, derangement, gaussian_baseline
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS

DEFAULTS = {"seed": 0, "absence_std": 0.5, "black_empty": False}


def _inputs(protocol: Protocol, data, batch_size: int = 64) -> np.ndarray:
    recorder = oracles.Recorder()
    spectral_importance(recorder, data, protocol, batch_size=batch_size)
    return recorder.images()


@pytest.mark.parametrize("absence", ABSENCES)
def test_the_table_names_the_fields_that_change_a_row(absence):
    """Whoever adds a baseline to the table has it tested here, without a word more."""
    one = ABSENCES[absence]
    make = Protocol.reference if one.script_only else Protocol
    images, labels = oracles.sample(4, (8, 8))

    def values(**changes):
        protocol = make(n_bands=2, absence=absence, **changes)
        return spectral_importance(oracles.TinyNet(), (images, labels), protocol).values

    plain = values(black_empty=False)
    np.testing.assert_array_equal(plain, values(black_empty=False))
    for field, value in {"seed": 7, "absence_std": 0.1, "black_empty": True}.items():
        changed = values(**{"black_empty": False, field: value})
        assert (not np.array_equal(changed, plain)) == (field in one.fields), field
        ids = [make(2, absence=absence, **{field: v}).protocol_id for v in (value, DEFAULTS[field])]
        assert (ids[0] != ids[1]) == (field in one.fields), field


def test_baselines_that_need_other_images_depend_on_them():
    images, labels = oracles.sample(4, (8, 8))
    for absence in ABSENCES:
        if ABSENCES[absence].script_only:
            continue
        protocol, net = Protocol(2, absence=absence, seed=3), oracles.TinyNet()
        whole = spectral_importance(net, (images, labels), protocol).values
        fewer = spectral_importance(net, (images[:2], labels[:2]), protocol).values
        same = np.array_equal(whole[:2], fewer)
        assert same == (not protocol.needs_all_images)


def test_a_baseline_that_nothing_makes_cannot_be_listed():
    with pytest.raises(TypeError, match="needs a function that makes it"):
        Absence(fields=("seed",))
    for absence in ABSENCES.values():
        assert absence.image or absence.spectrum


@pytest.mark.parametrize("name", RANGE_HANDLINGS)
def test_every_range_handling_ends_in_the_range_or_leaves_images_alone(name):
    one = RANGE_HANDLINGS[name]
    images = 0.1 + 0.5 * oracles.sample(2, (8, 8))[0]
    images[1] *= 0.9
    inside = one.apply(images.clone())
    assert torch.equal(inside, images) != one.changes_images
    found = one.apply(4 * images - 1)
    if name != "none":
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
    alone = torch.cat([one.apply(4 * image[None] - 1) for image in images])
    assert torch.equal(found, alone) != one.whole_batch


def test_seeds_are_stable_and_differ_by_every_part():
    assert seed_of("gaussian", 0, "abc") == 1791313965851027015
    seeds = {seed_of("a", 0), seed_of("a", 1), seed_of("b", 0), seed_of("a"), seed_of("a", 0, 0)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_zero_leaves_only_the_bands_of_the_coalition():
    images, labels = oracles.sample(1, (9, 8))
    seen = _inputs(Protocol(n_bands=3), (images, labels))
    masks = oracles.band_masks(3, 9, 8)
    image, nothing = images[0].double().numpy(), np.zeros((3, 9, 8))
    wanted = [oracles.coalition_image(image, nothing, masks, oracles.members(s, 3)) for s in (1, 6)]
    for mixed in wanted:  # float32 rounding of values near 1
        assert min(abs(seen - mixed).max(axis=(1, 2, 3))) < 1e-6


def test_gaussian_has_the_stated_pixel_deviation_and_is_white():
    image = torch.zeros(3, 64, 64)
    noise = gaussian_baseline(image, 0.25, seed=3, digest="some image")
    # 12,288 draws: standard errors 0.25/sqrt(2n) = 0.0016 of the deviation, 0.0023 of the mean
    assert abs(float(noise.std()) - 0.25) < 5 * 0.0016
    assert abs(float(noise.mean())) < 5 * 0.0023
    power = torch.fft.fft2(noise.double()).abs().square() / 64**2
    assert float(power[:, 8:24, 8:24].mean()) == pytest.approx(0.0625, rel=5 / np.sqrt(768))


def test_gaussian_depends_on_image_and_seed_only():
    image = torch.zeros(1, 4, 4)
    first = gaussian_baseline(image, 0.5, 0, "a")
    assert torch.equal(first, gaussian_baseline(image, 0.5, 0, "a"))
    assert not torch.equal(first, gaussian_baseline(image, 0.5, 1, "a"))
    assert not torch.equal(first, gaussian_baseline(image, 0.5, 0, "b"))
    torch.testing.assert_close(2 * first, gaussian_baseline(image, 1.0, 0, "a"))
    assert first.dtype == torch.float32
    double = gaussian_baseline(image.double(), 0.5, 0, "a")
    torch.testing.assert_close(double.float(), first, rtol=0, atol=0)


@pytest.mark.parametrize("absence", ["gaussian", "replacement"])
def test_rows_do_not_depend_on_order_or_batching(absence):
    images, labels = oracles.sample(6, (8, 10))
    protocol, net = Protocol(n_bands=3, absence=absence), oracles.TinyNet()
    whole = spectral_importance(net, (images, labels), protocol)
    back = torch.arange(5, -1, -1)
    turned = spectral_importance(
        net, [(images[back][:4], labels[back][:4]), (images[back][4:], labels[back][4:])], protocol
    )
    np.testing.assert_array_equal(whole.values, turned.values[::-1])
    assert whole.ids == turned.ids[::-1]


def test_gaussian_gives_the_empty_coalition_the_noise_itself():
    images, labels = oracles.sample(1, (32, 32))
    seen = _inputs(Protocol(n_bands=2, absence="gaussian", absence_std=0.1), (images, labels))
    assert len(seen) == 4, "no black image: every coalition goes through"
    assert seen[0].std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * seen[0].size))
    mixed = seen[1] + seen[2]  # each band once from the image, once from the noise
    np.testing.assert_allclose(mixed, seen[0] + seen[3], atol=2e-6)  # float32 rounding


def test_replacement_takes_the_missing_bands_from_another_image():
    images, labels = oracles.sample(4, (8, 8))
    seen = _inputs(Protocol(n_bands=2, absence="replacement"), (images, labels), batch_size=4)
    seen = seen.reshape(4, 4, 3, 8, 8)  # image, coalition
    masks = oracles.band_masks(2, 8, 8)
    doubles = images.double().numpy()
    donors = []
    for k in range(4):
        gaps = abs(doubles - seen[k, 0]).max(axis=(1, 2, 3))  # empty coalition: all of the donor
        donors.append(int(gaps.argmin()))
        assert gaps.min() < 1e-6
        mixed = oracles.coalition_image(doubles[k], doubles[donors[-1]], masks, [0])
        np.testing.assert_allclose(seen[k, 1], mixed, atol=1e-6)
    assert sorted(donors) == [0, 1, 2, 3]
    assert all(donor != k for k, donor in enumerate(donors))


@given(st.sets(st.text("0123456789abcdef", min_size=1), min_size=2, max_size=40), st.integers(0, 9))
def test_derangement_is_a_permutation_without_fixed_points(digests, seed):
    donors = derangement(sorted(digests), seed)
    assert sorted(donors) == list(range(len(digests)))
    assert all(donor != k for k, donor in enumerate(donors))


@given(st.data())
def test_derangement_depends_on_the_set_not_on_the_order(data):
    digests = sorted(data.draw(st.sets(st.text("abc", min_size=1), min_size=2, max_size=20)))
    order = data.draw(st.permutations(digests))
    first, second = derangement(digests, 5), derangement(order, 5)
    by_name = {digest: digests[k] for digest, k in zip(digests, first, strict=True)}
    assert by_name == {digest: order[k] for digest, k in zip(order, second, strict=True)}


def test_derangement_of_images_that_come_twice_still_moves_every_place():
    donors = derangement(["a", "b", "a", "a"], 1)
    assert sorted(donors) == [0, 1, 2, 3]
    assert all(donor != k for k, donor in enumerate(donors))


def test_derangements_of_different_seeds_differ():
    names = [str(k) for k in range(30)]
    assert len({tuple(derangement(names, seed)) for seed in range(20)}) == 20
