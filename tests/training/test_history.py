"""What is recorded is what the functions give, and the training does not notice."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from iaside_plugins import Protocol, error_decomposition, spectral_importance
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.training import SpectralHistory

THREE = Protocol(n_bands=3)
IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 4
PAIRS = (IMAGES, {"dark": IMAGES / 2, ("flat", 1): 0.25 + IMAGES / 2}, LABELS)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(144, 4),
    )


class Drawing(nn.Module):
    """Draws from all global generators in every pass, which changes no output."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, images):
        torch.rand(1), np.random.rand(), random.random()
        return self.net(images)


def trained(history, epochs=3):
    """A net after a few steps whose dropout draws from torch's global generator."""
    net = Drawing()
    net.net[1].eval()  # a batch norm that is kept as it is: modes differ within the net
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    torch.manual_seed(1)
    for epoch in range(epochs):
        optimiser.zero_grad()
        cross_entropy(net(IMAGES), LABELS).backward()
        optimiser.step()
        if history is not None:
            history.record(net, epoch)
    return net


@pytest.fixture(scope="module")
def history():
    found = SpectralHistory((IMAGES, LABELS), THREE, pairs=PAIRS)
    trained(found)
    return found


def test_training_with_and_without_records_is_bit_equal():
    random.seed(0), np.random.seed(0)
    plain, after = trained(None), (torch.rand(1), np.random.rand(), random.random())
    random.seed(0), np.random.seed(0)
    history = SpectralHistory((IMAGES, LABELS), THREE, pairs=PAIRS)
    recorded, drawn = trained(history), (torch.rand(1), np.random.rand(), random.random())
    for one, other in zip(plain.parameters(), recorded.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(plain.buffers(), recorded.buffers(), strict=True):
        assert torch.equal(one, other)
    # numpy's and Python's are drawn from by training passes alone
    assert after == drawn


def test_modes_and_gradient_mode_are_put_back_also_by_an_error():
    net = network()
    net[1].eval()
    before = [part.training for part in net.modules()]
    history = SpectralHistory((IMAGES, LABELS), THREE)
    history.record(net, 0)
    assert [part.training for part in net.modules()] == before
    assert torch.is_grad_enabled()
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=r"label 9 is out of range: the model has 4 outputs"):
        SpectralHistory((IMAGES, LABELS + 6), THREE).record(net, 0)
    assert [part.training for part in net.modules()] == before
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_record_is_what_the_functions_give(history):
    net = trained(None).eval()
    expected = spectral_importance(net, (IMAGES, LABELS), THREE)
    assert (history.importances[2].per_image == expected.per_image).all()
    split = error_decomposition(net, PAIRS, Protocol(n_bands=3, estimator="permutation"))
    found = history.decompositions[2]
    assert (found.loss.bands == split.loss.bands).all()
    row = history.to_frame().iloc[2]
    assert row["epoch"] == 2
    assert row["band_1"] == expected.shapley_values[1]
    clean = split.error.over(None).clean.value
    bands = sum(row[f"error_band_{i}"] for i in range(3))
    assert row["perturbed_error"] == pytest.approx(float(clean) + bands)


def test_wrap_gives_the_module_that_is_measured():
    class Normalised(nn.Module):
        def __init__(self, net):
            super().__init__()
            torch.rand(3)  # as a layer's random weights would
            self.net, self.drop = net, nn.Dropout(0.5)

        def forward(self, images):
            return self.net(self.drop(images) * 4 - 2)

    net = network()
    state = torch.get_rng_state()
    found = SpectralHistory((IMAGES, LABELS), THREE, wrap=Normalised).record(net, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    plain = SpectralHistory((IMAGES, LABELS), THREE, wrap=lambda model: lambda x: model(x * 4 - 2))
    assert (found.per_image == plain.record(net, 0).per_image).all()
    expected = spectral_importance(Normalised(net).eval(), (IMAGES, LABELS), THREE)
    assert (found.per_image == expected.per_image).all()


def test_every_other_epoch(caplog):
    history = SpectralHistory((IMAGES, LABELS), THREE, every=2, max_images=4)
    with caplog.at_level(logging.INFO, "iaside_plugins.training"):
        trained(history)
    assert sorted(history.importances) == [0, 2]
    assert history.importances[0].n_images == 4
    said = [one for one in caplog.messages if "forward passes" in one]
    assert said == ["every record takes 7 forward passes an image, 28 for 4 images"]
    assert not history.decompositions


def test_an_epoch_again_and_other_images_are_said(caplog):
    batches = [(IMAGES, LABELS)]
    history = SpectralHistory(batches, THREE)
    net = network()
    history.record(net, 0)
    history.record(net, 0)
    assert "epoch 0 was recorded before: replaced" in caplog.messages
    batches[0] = (IMAGES * 0.9, LABELS)
    history.record(net, 1)
    assert "images are other ones than at the first record" in caplog.messages[-1]


def test_other_pairs_are_said(caplog):
    pairs = [(IMAGES, IMAGES * 0.9, LABELS)]
    history, net = SpectralHistory((IMAGES, LABELS), THREE, pairs=pairs), network()
    history.record(net, 0)
    pairs[0] = (IMAGES * 0.8, IMAGES * 0.9, LABELS)
    history.record(net, 1)
    assert len([m for m in caplog.messages if "the pairs are other ones than at" in m]) == 1


def test_saved_loaded_and_gone_on_with(history, tmp_path):
    path = tmp_path / "history.npz"
    history.save(path)
    found = SpectralHistory.load(path)
    assert found.to_frame().equals(history.to_frame())
    assert found.protocol == THREE
    with pytest.raises(InputError, match=r"no data to record with: give data="):
        found.record(network(), 3)
    more = SpectralHistory.load(path, (IMAGES, LABELS), every=1)
    more.record(network(), 3)
    assert sorted(more.importances) == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"give protocol= as it was"):
        SpectralHistory.load(path, protocol=Protocol(n_bands=4))
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().startswith("epoch,n_images,clean_accuracy,")


def test_the_protocol_is_kept_before_anything_is_recorded(tmp_path):
    path = tmp_path / "history.npz"
    started = SpectralHistory((IMAGES, LABELS), THREE)
    started.save(path)
    assert SpectralHistory.load(path).protocol == THREE
    with pytest.raises(InputError, match=r"give protocol= as it was"):
        SpectralHistory((IMAGES, LABELS)).load_state_dict(started.state_dict())
    kept = {name: held for name, held in started.state_dict().items() if name != "protocol"}
    started.load_state_dict(kept)  # of earlier versions
    assert started.protocol == THREE


def test_a_checkpoint_holds_it_without_code(history, tmp_path):
    torch.save({"history": history.state_dict()}, tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)["history"]
    other = SpectralHistory((IMAGES, LABELS), THREE)
    other.load_state_dict(state)
    assert other.to_frame().equals(history.to_frame())
    with pytest.raises(InputError, match=r"expected a saved SpectralHistory"):
        other.load_state_dict({"../weights": torch.zeros(3)})


def test_the_picture_shows_every_record(history):
    pytest.importorskip("matplotlib", reason="needs the extra leaderboard")
    nats, score, accuracy, _ = history.plot("a net").axes
    assert (nats.images[0].get_array() == history.to_frame()[["band_0", "band_1", "band_2"]].T).all(
        axis=None
    )
    assert list(score.lines[-1].get_ydata()) == list(history.to_frame()["signed_score"])
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["0", "1", "2"]
    with pytest.raises(InputError, match=r"nothing was recorded yet"):
        SpectralHistory().plot()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, r"every must be an integer of at least 1, got 0"),
        ({"data": iter([(IMAGES, LABELS)])}, r"data can be read only once"),
        ({"pairs": iter([PAIRS])}, r"pairs can be read only once"),
    ],
)
def test_what_cannot_be_recorded_with_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SpectralHistory(**{"data": (IMAGES, LABELS), **arguments})


def test_what_cannot_be_recorded_is_refused():
    history = SpectralHistory((IMAGES * 255, LABELS), THREE)
    with pytest.raises(InputError, match=r"expected images in \[0, 1\]"):
        history.record(network(), 0)
    with pytest.raises(InputTypeError, match=r"expected an nn.Module to record, got function"):
        history.record(lambda x: x, 0)
    with pytest.raises(InputError, match=r"epoch must be an integer of at least 0, got 0.5"):
        history.record(network(), 0.5)


def test_epochs_of_numpy_are_taken(tmp_path):
    history = SpectralHistory((IMAGES, LABELS), THREE, every=np.int64(5))
    assert history.record(network(), np.int64(4)) is None
    history.record(network(), np.int64(5))
    history.save(tmp_path / "history.npz")
    assert list(SpectralHistory.load(tmp_path / "history.npz").importances) == [5]
