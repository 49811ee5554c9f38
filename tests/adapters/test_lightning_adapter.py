"""The callback in a real training with Lightning: it records, logs, and changes no weight."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from iaside_plugins import Protocol
from iaside_plugins.errors import InputError, MissingExtraError

ADAPTER = "iaside_plugins.adapters.lightning_adapter"
adapter = pytest.importorskip(ADAPTER, exc_type=ImportError, reason="needs the extra lightning")
host = importlib.import_module("lightning.pytorch")

IMAGES, LABELS = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)
FOUR = Protocol(n_bands=4)


class Net(host.LightningModule):
    """Dropout draws from torch's generator, so that a callback that does is found out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 8))

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, _):
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def fit(folder, callbacks, epochs=2, checkpoint=None, **options):
    torch.manual_seed(1)
    net = Net()
    data = list(zip(IMAGES, LABELS, strict=True))
    shuffled = torch.utils.data.DataLoader(data, 4, shuffle=True)
    trainer = host.Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"enable_checkpointing": False, **options},
    )
    trainer.fit(net, shuffled, torch.utils.data.DataLoader(data, 4), ckpt_path=checkpoint)
    return net, trainer


def test_a_fit_is_recorded_logged_and_unchanged(tmp_path):
    callback = adapter.SpectralCallback((IMAGES, LABELS), FOUR)
    net, trainer = fit(tmp_path, [callback])
    assert sorted(callback.history.importances) == [0, 1]  # and not the sanity check
    last = callback.history.importances[1]
    assert trainer.callback_metrics["iaside/signed_score"] == pytest.approx(last.signed_score)
    logged = [float(trainer.callback_metrics[f"iaside/nats_band_{i}"]) for i in range(4)]
    assert logged == pytest.approx(list(last.shapley_values))
    plain, _ = fit(tmp_path, [])
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_fit_keeps_the_history(tmp_path):
    first = adapter.SpectralCallback((IMAGES, LABELS), FOUR)
    _, trainer = fit(tmp_path, [first])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    second = adapter.SpectralCallback((IMAGES, LABELS), FOUR, wrap=lambda module: module.net)
    fit(tmp_path, [second], 3, tmp_path / "a.ckpt")
    assert sorted(second.history.importances) == [0, 1, 2]
    kept = second.history.importances[0].per_image
    assert (kept == first.history.importances[0].per_image).all()


def test_several_callbacks_are_told_apart_by_their_names(tmp_path):
    few = IMAGES[:4], LABELS[:4]
    whole = adapter.SpectralCallback((IMAGES, LABELS), FOUR)
    part = adapter.SpectralCallback(few, FOUR, name="part")
    _, trainer = fit(tmp_path, [whole, part], 1)
    for callback, group in ((whole, "iaside"), (part, "iaside/part")):
        score = callback.history.importances[0].signed_score
        assert trainer.callback_metrics[f"{group}/signed_score"] == pytest.approx(score)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = [adapter.SpectralCallback((IMAGES, LABELS), FOUR)]
    again.append(adapter.SpectralCallback(few, FOUR, name="part"))
    fit(tmp_path, again, 2, tmp_path / "a.ckpt")
    for callback, n_images in ((again[0], 8), (again[1], 4)):
        found = callback.history.importances
        assert [found[epoch].n_images for epoch in (0, 1)] == [n_images, n_images]


def test_two_processes_see_what_the_first_one_recorded(tmp_path):
    """Callbacks that monitor a metric look for it in every process, and wait for one another."""
    callback = adapter.SpectralCallback((IMAGES, LABELS), FOUR)
    callbacks = host.callbacks
    kept = callbacks.ModelCheckpoint(tmp_path, monitor="iaside/signed_score", mode="max")
    stop = callbacks.EarlyStopping("iaside/clean_accuracy", mode="max", patience=5)
    options = {"devices": 2, "strategy": "ddp_fork", "enable_checkpointing": True}
    fit(tmp_path, [callback, kept, stop], **options)
    states = torch.load(kept.best_model_path, weights_only=True)["callbacks"]
    callback.load_state_dict(states["SpectralCallback"])
    best = max(one.signed_score for one in callback.history.importances.values())
    seen = next(state for name, state in states.items() if name.startswith("ModelCheckpoint"))
    assert float(seen["best_model_score"]) == pytest.approx(best)


def test_split_weights_are_refused():
    class Trainer:
        strategy = type("FSDPStrategy", (), {})()

    callback = adapter.SpectralCallback((IMAGES, LABELS), FOUR)
    with pytest.raises(InputError, match=r"split over processes \(FSDPStrategy\)"):
        callback.on_fit_start(Trainer, Net())


def test_the_callback_is_one_of_the_library_in_use(monkeypatch):
    for name in adapter.HOSTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    other = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "pytorch_lightning", type("Host", (), {"Callback": other}))
    assert adapter._bases() == (other,)


def test_without_lightning_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(adapter, "HOSTS", ("no_such_library.pytorch",))
    with pytest.raises(MissingExtraError, match=r"needs Lightning: pip install -e '.\[lightning\]"):
        adapter._bases()
