"""spectral_importance on models whose answer is known, resumed runs, stopping, real models."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import warnings

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import InputError, Protocol, SpectralPartition, spectral_importance
from iaside_plugins.importance import CHECK_EVERY, MIN_IMAGES


# ---- models with a known answer ---------------------------------------------------------------
class OneBand(nn.Module):
    """Logits from fixed patterns of one band: reads that band and is blind to every other."""

    def __init__(self, band: int, n_bands: int, size: tuple[int, int]):
        super().__init__()
        partition = SpectralPartition(n_bands)
        noise = torch.from_numpy(np.random.default_rng(band).normal(size=(4, 3, *size)))
        patterns = partition.split(noise)[:, band].flatten(1)
        self.register_buffer("patterns", patterns / patterns.norm(dim=1, keepdim=True))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tanh(images.flatten(1) @ self.patterns.T)


class Blind(oracles.TinyNet):
    """A curved network that is shown everything but one band."""

    def __init__(self, band: int, n_bands: int):
        super().__init__()
        self.band, self.partition = band, SpectralPartition(n_bands)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images - self.partition.split(images)[:, self.band])


class Additive(nn.Module):
    """Log-likelihood of class 0 is -6 + sum over bands of w_i * energy_i / energy: additive."""

    def __init__(self, weights: list[float], energy: torch.Tensor):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.total = energy
        self.partition = SpectralPartition(len(weights))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        share = self.partition.energy(images) / self.total
        first = share @ self.weights - 6
        return torch.stack([first, torch.log1p(-first.exp())], dim=1)


@pytest.mark.parametrize("band", range(4))
@pytest.mark.parametrize("size", [(12, 12), (11, 9)])
@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-6), ("float64", 1e-14)])
def test_a_planted_band_gets_everything_and_the_others_nothing(band, size, precision, rounding):
    images, labels = oracles.sample(3, size, n_classes=4)
    net = OneBand(band, 4, size)
    net = net.float() if precision == "float32" else net
    found = spectral_importance(net, (images, labels), Protocol(4), precision=precision)
    others = np.delete(found.per_image, band, axis=1)
    assert abs(others).max() < rounding  # a few roundings of pixels and logits of about 1
    gain = found.ends[:, 1] - found.ends[:, 0]
    assert abs(gain).max() > 0.02, "the planted band must matter"
    np.testing.assert_allclose(found.per_image[:, band], gain, rtol=0, atol=3 * rounding)


@pytest.mark.parametrize("band", [0, 2])
@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement"])
def test_a_band_that_the_model_cannot_see_gets_nothing(band, absence):
    images, labels = oracles.sample(3, (10, 13), dtype=torch.float64)
    net = Blind(band, 4).double()
    protocol = Protocol(4, absence=absence)
    found = spectral_importance(net, (images, labels), protocol, precision="float64")
    assert abs(found.per_image[:, band]).max() < 1e-12
    assert abs(np.delete(found.per_image, band, axis=1)).min(axis=0).max() > 1e-3


@pytest.mark.parametrize("estimator", ["exact", "permutation"])
def test_an_additive_model_has_the_closed_form(estimator):
    images = oracles.sample(1, (16, 12), dtype=torch.float64)[0]
    weights = [1.0, -0.5, 2.0, 0.25, 3.0]
    partition = SpectralPartition(5)
    energy = partition.energy(images)
    net = Additive(weights, energy.sum())
    data = (images, torch.zeros(1, dtype=torch.long))
    found = spectral_importance(net, data, Protocol(5, estimator=estimator), precision="float64")
    closed = np.array(weights) * (energy / energy.sum())[0].numpy()
    np.testing.assert_allclose(found.shapley_values, closed, rtol=0, atol=1e-12)
    assert found.ends[0, 0] == pytest.approx(-6, abs=1e-12)


def test_a_model_that_ignores_its_input_scores_nothing():
    """All Shapley values are 0/0 in the distribution: equal shares, not shares of rounding."""
    data = oracles.sample(4, (16, 16))
    logits = torch.tensor([[0.3, 0.1, 0.7]])
    found = spectral_importance(lambda x: logits.expand(len(x), -1), data, Protocol(6))
    assert found.shapley_values.tolist() == [0.0] * 6
    np.testing.assert_allclose(found.distribution, 1 / 6)
    assert found.score == pytest.approx(0, abs=1e-15)


# ---- the permutation estimator ------------------------------------------------------------------
def test_permutations_of_two_bands_are_exact():
    data, net = oracles.sample(3, dtype=torch.float64), oracles.TinyNet().double()
    exact = spectral_importance(net, data, Protocol(2), precision="float64")
    sampled = Protocol(2, estimator="permutation")
    found = spectral_importance(net, data, sampled, precision="float64")
    np.testing.assert_allclose(found.per_image, exact.per_image, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.ends, exact.ends, rtol=0, atol=1e-12)
    assert found.values is None


def test_permutations_are_efficient_for_every_image_and_unbiased():
    data, net = oracles.sample(2, dtype=torch.float64), oracles.TinyNet(scale=3).double()
    exact = spectral_importance(net, data, Protocol(4), precision="float64")
    estimates = []
    for seed in range(150):
        protocol = Protocol(4, estimator="permutation", seed=seed)
        found = spectral_importance(net, data, protocol, precision="float64")
        gain = found.ends[:, 1] - found.ends[:, 0]
        np.testing.assert_allclose(found.per_image.sum(axis=1), gain, rtol=0, atol=1e-12)
        estimates.append(found.per_image)
    se = np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates))
    error = np.mean(estimates, axis=0) - exact.per_image
    assert (se > 0).all()
    assert (abs(error) < 4 * se).all()


def test_permutations_cost_what_their_chains_visit():
    data, recorder = oracles.sample(3, (24, 24)), oracles.Recorder()
    protocol = Protocol(12, estimator="permutation", n_permutations=2)
    found = spectral_importance(recorder, data, protocol)
    # per image 4 chains of 11 coalitions between empty and grand, some of them shared
    assert 3 * (2 * 11) + 1 < found.n_forward <= 3 * (4 * 11 + 1) + 1
    assert len(recorder.images()) == found.n_forward


# ---- how many images ----------------------------------------------------------------------------
class Steps:
    """An endless, counted source of batches of one image."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self):
        while True:
            self.taken += 1
            images, labels = oracles.sample(1, (8, 8), seed=self.taken)
            yield images, labels


@pytest.mark.parametrize("batch_size", [4, 64])
def test_max_images_stops_without_asking_for_more(batch_size):
    source = Steps()
    found = spectral_importance(
        oracles.TinyNet(), source, Protocol(2), max_images=5, batch_size=batch_size
    )
    assert found.n_images == 5
    assert source.taken == 5
    first = spectral_importance(oracles.TinyNet(), Steps(), Protocol(2), max_images=3)
    np.testing.assert_allclose(found.values[:3], first.values, rtol=0, atol=1e-5)


def test_max_images_beyond_the_data_takes_all():
    data = oracles.sample(3)
    assert spectral_importance(oracles.TinyNet(), data, Protocol(2), max_images=9).n_images == 3


@pytest.mark.parametrize("batch_size", [1, 4, 28, 512])
def test_target_error_stops_at_the_same_image_whatever_the_batch(batch_size):
    found = spectral_importance(
        oracles.TinyNet(), Steps(), Protocol(2), target_error=10.0, batch_size=batch_size
    )
    assert found.n_images == MIN_IMAGES


def test_target_error_goes_on_until_it_is_met():
    def run(target):
        return spectral_importance(
            oracles.TinyNet(), Steps(), Protocol(4), target_error=target, max_images=400
        )

    wide = run(10.0)
    half = float(np.diff(wide.signed_score_interval)[0]) / 2
    found = run(0.75 * half)
    assert found.n_images > MIN_IMAGES
    assert found.n_images % CHECK_EVERY == 0
    assert np.diff(found.signed_score_interval)[0] / 2 <= 0.75 * half


# ---- resuming -----------------------------------------------------------------------------------
class Breaks(oracles.TinyNet):
    """Raises on call number `at`, and counts its calls."""

    def __init__(self, at: int | None = None, error: type[BaseException] = RuntimeError):
        super().__init__()
        self.at, self.error, self.calls = at, error, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise self.error("stopped")
        return super().forward(images)


PROTOCOLS = [
    Protocol(4),
    Protocol(4, absence="gaussian"),
    Protocol(4, absence="replacement"),
    Protocol(4, estimator="permutation"),
]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.absence}-{p.estimator}")
def test_a_stopped_run_goes_on_where_it_was(tmp_path, protocol, error):
    data = oracles.sample(6)
    options = {"batch_size": 8, "resume": tmp_path / "run"}
    whole = spectral_importance(Breaks(), data, protocol, batch_size=8)
    with pytest.raises(error, match="stopped"):
        spectral_importance(Breaks(at=5, error=error), data, protocol, **options)
    again = Breaks()
    found = spectral_importance(again, data, protocol, **options)
    np.testing.assert_array_equal(found.per_image, whole.per_image)
    np.testing.assert_array_equal(found.ends, whole.ends)
    np.testing.assert_array_equal(found.correct, whole.correct)
    assert found.ids == whole.ids
    assert found.n_classes == whole.n_classes
    # two passes an image, one with chains; the black image, where it stands in, is the first
    finished = 3 if protocol.estimator == "permutation" else 1 if protocol.absence == "zero" else 2
    black = int(protocol.absence == "zero")
    first = spectral_importance(Breaks(), data, protocol, batch_size=8, max_images=finished)
    assert found.n_forward == whole.n_forward - first.n_forward + black
    third = Breaks()
    done = spectral_importance(third, data, protocol, **options)
    assert (third.calls, done.n_forward) == (0, 0)
    np.testing.assert_array_equal(done.per_image, whole.per_image)
    assert done.n_classes == 3


def test_a_resumed_reference_run_is_the_same(tmp_path):
    data, protocol = oracles.sample(9), Protocol.reference(3, image_batch=3)
    whole = spectral_importance(Breaks(), data, protocol)
    with pytest.raises(RuntimeError, match="stopped"):
        spectral_importance(Breaks(at=13), data, protocol, resume=tmp_path)
    again = Breaks()
    found = spectral_importance(again, data, protocol, resume=tmp_path)
    np.testing.assert_array_equal(found.values, whole.values)
    assert again.calls == 16  # two of the three batches, 8 coalitions each


def test_random_batches_are_not_mistaken_for_one_another(tmp_path):
    """Two equal batches have their own noise; a stored one does not stand in for the other."""
    images, labels = oracles.sample(2)
    twice = (images[[0, 1, 0, 1]], labels[[0, 1, 0, 1]])
    protocol = Protocol.reference(2, absence="gaussian_bins", image_batch=2)
    found = spectral_importance(oracles.TinyNet(), twice, protocol)
    assert not np.array_equal(found.values[:2], found.values[2:])
    kept = spectral_importance(oracles.TinyNet(), twice, protocol, resume=tmp_path)
    np.testing.assert_array_equal(kept.values, found.values)


def test_more_images_later_add_to_the_finished_ones(tmp_path):
    data, protocol = oracles.sample(6), Protocol(3)
    options = {"resume": tmp_path, "batch_size": 8}
    spectral_importance(oracles.TinyNet(), data, protocol, max_images=4, **options)
    found = spectral_importance(oracles.TinyNet(), data, protocol, **options)
    assert found.n_forward == 2 * 7 + 1
    whole = spectral_importance(oracles.TinyNet(), data, protocol, batch_size=8)
    np.testing.assert_array_equal(found.values, whole.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": Protocol(3, temperature=2.0)}, "temperature.*1.0.* 2.0"),
        ({"protocol": Protocol(4)}, "n_bands.*3.* 4"),
        ({"precision": "bfloat16"}, "precision was 'float32' and is now 'bfloat16'"),
        ({"batch_size": 2}, "batch_size was 8 and is now 2"),
        ({"model": oracles.TinyNet(seed=1)}, "model was 'TinyNet:.*' and is now 'TinyNet:"),
        ({"model": Breaks()}, "model was 'TinyNet:.*' and is now 'Breaks:"),
    ],
)
def test_the_rows_of_another_run_are_refused(tmp_path, change, message):
    data = oracles.sample(2)
    same = {"model": oracles.TinyNet(), "protocol": Protocol(3), "batch_size": 8}
    same["precision"] = "float32"

    def run(model, protocol, **options):
        return spectral_importance(model, data, protocol, resume=tmp_path, **options)

    run(**same)
    with pytest.raises(InputError, match=message) as caught:
        run(**{**same, **change})
    assert tmp_path.name in str(caught.value)


def test_unused_choices_do_not_make_another_run(tmp_path):
    data, net = oracles.sample(2), oracles.TinyNet()
    spectral_importance(net, data, Protocol(3), resume=tmp_path)
    found = spectral_importance(net, data, Protocol(3, seed=5), resume=tmp_path)
    assert found.n_forward == 0


class Normalised(oracles.TinyNet):
    """Keeps its mean in a buffer that is not saved with the weights."""

    def __init__(self, mean: float):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images - self.mean)


def test_models_that_differ_in_an_unsaved_buffer_are_told_apart(tmp_path):
    data = oracles.sample(2)
    spectral_importance(Normalised(0.0), data, Protocol(3), resume=tmp_path)
    with pytest.raises(InputError, match="model was"):
        spectral_importance(Normalised(0.5), data, Protocol(3), resume=tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_chunk_is_computed_again(tmp_path, damage):
    data, protocol = oracles.sample(3), Protocol(3)
    whole = spectral_importance(oracles.TinyNet(), data, protocol, resume=tmp_path)
    (chunk,) = tmp_path.glob("rows-*.npz")
    held = bytearray(chunk.read_bytes())
    held[len(held) // 2] ^= 0xFF
    chunk.write_bytes({"empty": b"", "cut": bytes(held[:200]), "flipped": bytes(held)}[damage])
    found = spectral_importance(oracles.TinyNet(), data, protocol, resume=tmp_path)
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.n_forward == whole.n_forward
    shutil.copytree(tmp_path, tmp_path / "moved")  # the folder can be moved and still be used
    moved = spectral_importance(oracles.TinyNet(), data, protocol, resume=tmp_path / "moved")
    assert moved.n_forward == 0


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spectral_importance(oracles.TinyNet(), oracles.sample(2), Protocol(2))
    assert list(tmp_path.iterdir()) == []


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_progress_bar_goes_to_a_terminal_and_nowhere_else(capsys, monkeypatch):
    data = oracles.sample(2)
    for show in (True, False):  # standard error is captured here: not a terminal
        spectral_importance(oracles.TinyNet(), data, Protocol(2), show_progress=show)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    spectral_importance(oracles.TinyNet(), data, Protocol(2))
    assert terminal.getvalue() == ""
    spectral_importance(oracles.TinyNet(), data, Protocol(2), show_progress=True)
    assert "2/2" in terminal.getvalue()
    assert capsys.readouterr() == ("", "")


# ---- real models --------------------------------------------------------------------------------
class Classifier(nn.Module):
    """A network of the kit with its normalisation inside."""

    def __init__(self, net: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net((images - self.mean) / self.std)


def _from_kit(folder, name: str, n_images: int):
    """A model of the kit and its first images, one of each of so many classes."""
    spec = importlib.util.spec_from_file_location("core_tests_kit", folder / "kit.py")
    kit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    known = json.loads((folder / "models.json").read_text())["models"]
    record = next(model for model in known if model["name"] == name)
    with warnings.catch_warnings():  # its loader leaves its files to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        net = Classifier(kit.load(name), record["mean"], record["std"])
        images, labels = next(iter(kit.batches(name, bs=n_images, every=152 // n_images)))
    return net, images, labels


@pytest.mark.kit
@pytest.mark.parametrize("name", ["c10_resnet20", "c10_cnn_a_adv"])
def test_real_models_in_single_equal_the_oracle_in_double(kit, name):
    net, images, labels = _from_kit(kit, name, 2)
    found = spectral_importance(net, (images, labels), Protocol())
    table = oracles.value_table(net.double(), images.double().numpy(), labels, 8)
    psi = np.array([oracles.shapley_by_subsets(row) for row in table])
    np.testing.assert_allclose(found.per_image, psi, rtol=0, atol=1e-4)
    p = oracles.distribution(psi.mean(axis=0).tolist())
    np.testing.assert_allclose(found.distribution, p, rtol=0, atol=1e-4)
    assert found.signed_score == pytest.approx(oracles.signed_score(p), abs=1e-4)


@pytest.mark.kit
def test_the_reference_protocol_equals_the_script_on_a_real_model(kit):
    net, images, labels = _from_kit(kit, "c10_cnn_a_adv", 20)
    found = spectral_importance(net, (images, labels), Protocol.reference())
    assert len(images) == 20
    table = oracles.script_table(net.double(), images.double().numpy(), labels, 8, image_batch=10)
    psi = oracles.shapley_by_subsets(table.mean(axis=0))
    p = oracles.distribution(psi.tolist())
    np.testing.assert_allclose(found.distribution, p, rtol=0, atol=1e-4)
    plain = spectral_importance(net.float(), (images, labels), Protocol(), batch_size=256)
    assert abs(plain.distribution - p).max() > 1e-2, "the two protocols must differ"
