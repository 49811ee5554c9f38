"""Fourier heat map: basis images, against the slow way, on planted models, resumed, saved."""

from __future__ import annotations

import itertools
import json

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import FourierHeatMap, InputError, SpectralPartition, fourier_heatmap
from iaside_plugins.heatmap.basis import (
    axis_frequencies,
    basis_images,
    frequency_step,
    half_frequencies,
    mirrored,
    signs,
    weights_of,
)
from iaside_plugins.heatmap.run import default_norm
from iaside_plugins.heatmap.text import heatmap_text
from iaside_plugins.inference import tuning
from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.storage.provenance import image_digest

SIZES = [(8, 8), (9, 12), (7, 5), (6, 10)]
CPU = torch.device("cpu")
FOUR = SpectralPartition(4)


def full_grid(size):
    ky, kx = (axis_frequencies(n, 1) for n in size)
    return np.array(list(itertools.product(ky, kx)))


class Shy(nn.Module):
    """Says class 1 where an image differs from grey in one band, else class 0."""

    def __init__(self, band: int, n_bands: int, size: tuple[int, int]):
        super().__init__()
        self.register_buffer("index", SpectralPartition(n_bands).index(*size))
        self.band = band
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        energy = keep_bands(images - 0.5, self.index, [self.band]).square().sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(energy, 1e-4), energy], dim=1) * 1e4


def grey(n: int, size: tuple[int, int]):
    """Grey images of one class, whose noise of small norm is never clipped."""
    level = 0.5 + 1e-6 * torch.arange(n)  # no two images are the same
    return level[:, None, None, None].expand(n, 3, *size), torch.zeros(n, dtype=torch.long)


@pytest.mark.parametrize("size", SIZES)
def test_basis_images_have_norm_one_and_energy_at_k_and_minus_k_alone(size):
    every = full_grid(size)
    for k, image in zip(every, basis_images(every, size, torch.float64, CPU).numpy(), strict=True):
        assert np.linalg.norm(image) == pytest.approx(1, abs=1e-12)
        power = np.abs(np.fft.fft2(image)) ** 2
        own = {(k[0] % size[0], k[1] % size[1]), (-k[0] % size[0], -k[1] % size[1])}
        inside = [power[place] for place in own]
        assert sum(inside) == pytest.approx(size[0] * size[1], rel=1e-12)
        np.testing.assert_allclose(inside, inside[0], rtol=1e-9)
        assert power.sum() == pytest.approx(sum(inside), rel=1e-12)


@pytest.mark.parametrize("size", [*SIZES, (32, 32)])
def test_half_of_the_grid_stands_for_all_of_it(size):
    half = half_frequencies(size)
    assert weights_of(half, size).sum() == size[0] * size[1]
    both = np.concatenate([half, mirrored(half, size)])
    assert {tuple(k) for k in both} == {tuple(k) for k in full_grid(size)}
    own = {tuple(k) for k in half if tuple(mirrored(k, size)) == tuple(k)}
    assert len(own) == (2 - size[0] % 2) * (2 - size[1] % 2)
    basis = [basis_images(k, size, torch.float64, CPU) for k in (half, mirrored(half, size))]
    torch.testing.assert_close(*basis, rtol=0, atol=1e-12)


def test_steps_keep_the_grid_symmetric():
    assert [frequency_step(size) for size in [(32, 32), (64, 48), (224, 224)]] == [1, 1, 7]
    assert [frequency_step((224, 160), grid=n) for n in (2, 32, 33, 224, 900)] == [112, 7, 7, 1, 1]
    for side, grid in itertools.product((9, 10, 32, 33), (2, 5, 8, 31)):
        assert len(axis_frequencies(side, frequency_step((side, 7), grid=grid))) <= grid
    assert len(axis_frequencies(32, frequency_step((32, 32), grid=8))) == 8
    assert frequency_step((32, 32), 3) == 3
    assert type(frequency_step((32, 32), np.int64(3))) is int
    with pytest.raises(InputError, match="exclude each other"):
        frequency_step((32, 32), 3, 8)
    with pytest.raises(InputError, match="at least 2"):
        frequency_step((32, 32), grid=1)
    half = half_frequencies((224, 224), 7)
    assert len(half) == (32 * 32 + 4) // 2
    assert (half % 7 == 0).all()
    assert weights_of(half, (224, 224)).sum() == 32 * 32
    assert weights_of(half_frequencies((30, 33), 4), (30, 33)).sum() == 7 * 9
    with pytest.raises(InputError, match="step must be an integer of at least 1, got 0"):
        half_frequencies((8, 8), 0)


def test_the_norm_is_that_of_yin_et_al():
    sizes = [(32, 32), (64, 64), (224, 224), (112, 112)]
    assert [default_norm(size) for size in sizes] == pytest.approx([4, 4, 15.7, 7.85])


def test_signs_are_of_the_image_the_frequency_and_the_channel_alone():
    half = half_frequencies((16, 16))
    drawn = signs("abc", half, 3, 0)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert np.abs(drawn.mean(axis=0)).max() < 0.3
    assert abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.3
    np.testing.assert_array_equal(signs("abc", half[5:9], 3, 0), drawn[5:9])
    np.testing.assert_array_equal(signs("abc", half, 1, 0), drawn[:, :1])
    assert (signs("abd", half, 3, 0) != drawn).any()
    assert (signs("abc", half, 3, 1) != drawn).any()
    many = signs("abc", half, 200, 0)  # more channels than a seed has bits
    np.testing.assert_array_equal(many[:, :3], drawn)
    assert np.abs(many.mean(axis=0)).max() < 0.35
    assert len(np.unique(many, axis=1).T) == 200


@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_every_frequency_of_the_full_grid_equals_the_slow_way(size):
    x, y = oracles.sample(4, size, dtype=torch.float64)
    net = oracles.TinyNet(scale=30).double()
    y[1:] = net(x).argmax(dim=1)[1:]  # right without noise
    found = fourier_heatmap(
        net, (x, y), norm=2.0, partition=SpectralPartition(4), precision="float64", batch_size=7
    )
    ky, kx, error = found.grid()
    wrong = np.zeros((len(ky), len(kx)))
    for k, image in enumerate(x.numpy()):
        digest = image_digest(x[k], int(y[k]))
        for (i, u), (j, v) in itertools.product(enumerate(ky), enumerate(kx)):
            basis = np.zeros(size)
            for row, column in itertools.product(range(size[0]), range(size[1])):
                basis[row, column] = np.cos(
                    2 * np.pi * (int(u) * row / size[0] + int(v) * column / size[1])
                )
            basis *= 2.0 / np.sqrt((basis**2).sum())
            one = max((u, v), tuple(mirrored(np.array([u, v]), size)))  # k and -k have one sign
            sign = signs(digest, np.array([one]), 3, 0)[0]
            noisy = np.stack([image[c] + sign[c] * basis for c in range(3)])
            logits = net(torch.from_numpy(np.minimum(np.maximum(noisy, 0), 1))[None])
            wrong[i, j] += int(logits.argmax()) != int(y[k])
    np.testing.assert_array_equal(error, wrong / 4)
    assert 0 < wrong.mean() < 4
    masks = oracles.band_masks(4, *size)
    shifted = wrong[np.ix_(np.argsort(ky % size[0]), np.argsort(kx % size[1]))] / 4
    np.testing.assert_allclose(found.band_means, [shifted[m].mean() for m in masks], atol=1e-12)
    assert found.clean_error == np.mean(net(x).argmax(1).numpy() != y.numpy())
    assert found.n_forward == 4 * (1 + len(found.frequencies))


@pytest.mark.parametrize("band", range(4))
def test_a_model_that_fails_in_one_band_has_errors_there_alone(band):
    size = (12, 16)
    found = fourier_heatmap(Shy(band, 4, size), grey(3, size), norm=0.5, partition=FOUR)
    ky, kx, error = found.grid()
    index = SpectralPartition(4).index(*size).numpy()
    np.testing.assert_array_equal(error, index[np.ix_(ky, kx)] == band)
    np.testing.assert_array_equal(found.band_means, np.arange(4) == band)
    low, high = found.band_means_interval.T
    assert (low <= found.band_means).all()
    assert (high >= found.band_means).all()
    assert (high - low > 0).all()
    assert found.clean_error == 0


def test_a_step_leaves_bands_without_a_frequency_without_a_mean():
    found = fourier_heatmap(
        Shy(1, 4, (12, 12)), grey(2, (12, 12)), norm=0.5, step=4, partition=FOUR
    )
    np.testing.assert_array_equal(found.bands, [0, 2, 2, 2, 2])
    assert np.isnan(found.band_means[[1, 3]]).all()
    assert found.to_dict()["band_means"]["value"][1] is None
    assert "–" in heatmap_text(found)
    assert "band" in found._repr_html_()


def test_a_run_resumes_in_any_order_and_batch_size(tmp_path):
    x, y = oracles.sample(5, (8, 8))
    net = oracles.TinyNet(scale=30)
    given = {"norm": 1.0, "partition": FOUR}
    whole = fourier_heatmap(net, (x, y), **given)
    fourier_heatmap(net, (x[3:], y[3:]), **given, resume=tmp_path)
    later = fourier_heatmap(net, (x, y), **given, resume=tmp_path, batch_size=5)
    assert later.n_forward == whole.n_forward * 3 // 5
    np.testing.assert_array_equal(later.wrong, whole.wrong)
    again = fourier_heatmap(net, [(x, y)], **given, resume=tmp_path, max_images=2)
    assert (again.n_forward, again.n_images, again.n_classes) == (0, 2, whole.n_classes)
    with pytest.raises(InputError, match="heat_map was"):
        fourier_heatmap(net, (x, y), norm=2.0, partition=FOUR, resume=tmp_path)


def test_results_are_saved_and_said(tmp_path):
    found = fourier_heatmap(Shy(2, 4, (8, 8)), grey(3, (8, 8)), norm=0.5, partition=FOUR)
    found.save(tmp_path / "map.npz")
    loaded = FourierHeatMap.load(tmp_path / "map.npz")
    assert loaded.to_dict() == found.to_dict() == json.loads(json.dumps(found.to_dict()))
    np.testing.assert_array_equal(loaded.wrong, found.wrong)
    assert repr(found) == (
        "FourierHeatMap(3 images, norm 0.5, 34 frequencies, error 0.0 % -> 0.0 to 100.0 % by band)"
    )
    assert found.to_frame()["n_frequencies"].sum() == 34
    text = heatmap_text(found)
    assert "2     2-3           100.0     [43.9, 100.0]" in text
    (tmp_path / "other.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="not a sound"):
        FourierHeatMap.load(tmp_path / "other.npz")


def test_an_accuracy_at_chance_is_said_and_comes_first(caplog):
    images, labels = grey(3, (8, 8))
    found = fourier_heatmap(Shy(2, 4, (8, 8)), (images, labels + 1), norm=0.5, partition=FOUR)
    assert found.clean_error == 1
    assert "(0 of 3 images) is at or below chance" in caplog.messages[0]
    assert heatmap_text(found).startswith("WARNING: accuracy 0.0%")


class Reused(nn.Module):
    """Writes every answer into the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.memory = Shy(2, 4, (8, 8)), torch.empty(64, 2)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.memory[: len(images)].copy_(self.net(images))


def test_a_model_may_reuse_the_memory_of_its_answers():
    plain, reused = (
        fourier_heatmap(model, grey(2, (8, 8)), norm=0.3, partition=FOUR, batch_size=4)
        for model in (Shy(2, 4, (8, 8)), Reused())
    )
    assert 0 < plain.wrong.mean() < 1
    np.testing.assert_array_equal(reused.wrong, plain.wrong)


def test_bad_input_is_refused_before_the_work():
    net, (x, y) = oracles.TinyNet(), oracles.sample(2, (8, 8))
    for norm in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="norm must be above 0"):
            fourier_heatmap(net, (x, y), norm=norm, partition=FOUR)
    with pytest.raises(InputError, match=r"norm=1020 is beyond .* 8 at most; .* divide it by 255"):
        fourier_heatmap(net, (x, y), norm=4 * 255, partition=FOUR)
    with pytest.raises(InputError, match="no images"):
        fourier_heatmap(net, [], partition=FOUR)
    for seed in (-1, 1.0, True, np.random.default_rng(0)):
        with pytest.raises(InputError, match="seed must be an integer of at least 0"):
            fourier_heatmap(net, (x, y), seed=seed, partition=FOUR)
    with pytest.raises(InputError, match="device must be cpu"):
        fourier_heatmap(net, (x, y), device="gpu", partition=FOUR)
    other = torch.rand(1, 3, 9, 8)
    with pytest.raises(InputError, match="images of one size, 8 x 8 as the first, got 9 x 8"):
        fourier_heatmap(net, [(x, y), (other, y[:1])], partition=FOUR)
    with pytest.raises(InputError, match="n_bands <= 4"):
        fourier_heatmap(net, (x, y))

    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3)) / (images.amax() < 1)

    with pytest.raises(InputError, match="non-finite logits"):
        fourier_heatmap(Broken().eval(), (x * 0.5, y), norm=8, partition=FOUR)


def test_half_precision_is_refused_where_it_is_too_coarse(tmp_path, monkeypatch):
    x, y = oracles.sample(2, (8, 8))
    given = {"partition": FOUR, "precision": "bfloat16", "batch_size": 8}
    with pytest.raises(InputError, match=r"bfloat16.* nats in the mean over 7 images.*float32"):
        fourier_heatmap(oracles.TinyNet(scale=300), (x, y), **given)
    found = fourier_heatmap(oracles.TinyNet(), (x[:1], y[:1]), **given, resume=tmp_path)
    assert found.n_forward == 1 + len(found.frequencies)
    monkeypatch.setattr(tuning, "HALF_TOLERANCE", 0.0)  # a run that goes on is judged no more
    assert fourier_heatmap(oracles.TinyNet(), (x, y), **given, resume=tmp_path).n_images == 2


def test_the_picture_is_point_symmetric_around_dc():
    pytest.importorskip("matplotlib")
    size = (8, 8)
    x, y = oracles.sample(6, size)
    found = fourier_heatmap(oracles.TinyNet(scale=30), (x, y), norm=1, partition=FOUR)
    figure = found.plot("tiny")
    left, right = figure.axes[:2]
    shown = np.asarray(left.images[0].get_array())
    np.testing.assert_array_equal(shown[1:, 1:], shown[1:, 1:][::-1, ::-1])
    assert left.images[0].get_extent() == [-4.5, 3.5, 3.5, -4.5]
    assert tuple(left.images[0].cmap(0.0)) == (1, 1, 1, 1)
    assert figure.get_suptitle().startswith("tiny, 6 images, Fourier noise of L2 norm 1")
    heights = [bar.get_height() for bar in right.patches]
    np.testing.assert_allclose(heights, 100 * found.band_means)
    for axis in (left, right):
        assert "cycles/image" in axis.get_xlabel()
    assert figure._repr_png_().startswith(b"\x89PNG")
