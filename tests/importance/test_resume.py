"""A stopped run goes on where it was, to the bit, and only with the same model and choices."""

from __future__ import annotations

import shutil

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, spectral_importance


class Breaks(oracles.TinyNet):
    """Raises on call number `at`, and counts its calls."""

    def __init__(self, at: int | None = None, error: type[BaseException] = RuntimeError):
        super().__init__()
        self._at, self.error, self.calls = at, error, 0  # where it stops is no setting

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self._at:
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
    with pytest.raises(InputError if error is RuntimeError else error, match="stopped"):
        spectral_importance(Breaks(at=6, error=error), data, protocol, **options)
    again = Breaks()
    found = spectral_importance(again, data, protocol, **options)
    np.testing.assert_array_equal(found.per_image, whole.per_image)
    np.testing.assert_array_equal(found.ends, whole.ends)
    np.testing.assert_array_equal(found.correct, whole.correct)
    assert found.ids == whole.ids
    assert found.n_classes == whole.n_classes
    # two passes an image, one with chains; the black image, where it stands in, is the first; two
    # images of the first batch run again
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
    with pytest.raises(InputError, match="stopped"):
        spectral_importance(Breaks(at=14), data, protocol, resume=tmp_path)
    again = Breaks()
    found = spectral_importance(again, data, protocol, resume=tmp_path)
    np.testing.assert_array_equal(found.values, whole.values)
    assert again.calls == 17  # two of the three batches, 8 coalitions each; two images again


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


def test_choices_that_change_no_number_do_not_make_another_run(tmp_path):
    data, net = oracles.sample(2), oracles.TinyNet()
    spectral_importance(net, data, Protocol(3), resume=tmp_path)
    for protocol, batch_size in ((Protocol(3, seed=5), 64), (Protocol(3), 2)):
        found = spectral_importance(net, data, protocol, resume=tmp_path, batch_size=batch_size)
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


def test_other_activations_on_the_same_weights_are_another_model(tmp_path):
    data = oracles.sample(2)
    layers = torch.nn.Flatten(), torch.nn.Linear(data[0][0].numel(), 3)
    nets = [
        torch.nn.Sequential(*layers, last).eval() for last in (torch.nn.ReLU(), torch.nn.Tanh())
    ]
    spectral_importance(nets[0], data, Protocol(2), resume=tmp_path)
    with pytest.raises(InputError, match="model was"):
        spectral_importance(nets[1], data, Protocol(2), resume=tmp_path)
