"""Kept rows of robust_evaluation: a stopped run goes on, and never with another model's rows."""

from __future__ import annotations

import numpy as np
import pytest
from foolbox_nets import small_net
from tiny_model import WATCH, Counted
from torch import nn

from iaside_plugins import InputError
from iaside_plugins.adapters.foolbox_adapter import robust_evaluation
from iaside_plugins.adapters.foolbox_adapter.attack_rows import fmodel_digest
from iaside_plugins.adapters.foolbox_adapter.masked_model import SpectralMaskModel

from .test_robust_evaluation import QUICK, A, batches, fb

pytest.importorskip("foolbox", reason="needs the extra foolbox")


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    net = Counted().eval()
    attacks = {"pgd": A.LinfPGD(steps=3), "ddn": A.DDNAttack(steps=3)}
    options = {"seed": 1, "resume": tmp_path / "run"}
    monkeypatch.setattr(WATCH, "rows", 0)
    plain = robust_evaluation(net, batches(), attacks, [0.05, 0.1], seed=1)
    whole = WATCH.rows
    monkeypatch.setattr(WATCH, "rows", 0)
    monkeypatch.setattr(WATCH, "_interrupt_after", whole - 8)
    with pytest.raises(KeyboardInterrupt):
        robust_evaluation(net, batches(), attacks, [0.05, 0.1], **options)
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    monkeypatch.setattr(WATCH, "rows", 0)
    resumed = robust_evaluation(net, batches(), attacks, [0.05, 0.1], **options)
    assert WATCH.rows < whole / 2
    for a, b in zip(resumed.outcomes, plain.outcomes, strict=True):
        np.testing.assert_array_equal(a.is_adv, b.is_adv)
        np.testing.assert_array_equal(a.distances, b.distances)
    with pytest.raises(InputError, match="seed was 1 and is now 2"):
        robust_evaluation(net, batches(), attacks, [0.05], seed=2, resume=tmp_path / "run")
    other = Counted(width=5).eval()
    with pytest.raises(InputError, match="holds another run: model was"):
        robust_evaluation(other, batches(), attacks, [0.05], **options)


def wrapped(kind: str, k: int):
    """Two models, k = 0 and 1, that differ in one thing between the outermost and the network."""
    mean = [0.0, 0.5][k] if kind == "mean" else [0.48501, 0.48504][k]
    preprocessing = {"mean": [mean] * 3, "std": [0.2] * 3, "axis": -3}
    if kind in ("mean", "digits"):
        model = fb.PyTorchModel(small_net(), (0, 1), "cpu", preprocessing)
        return model.transform_bounds((0, 1), wrapper=True)
    model = fb.PyTorchModel(small_net(), (0, 1), "cpu")
    if kind == "threshold":
        return fb.models.ThresholdingWrapper(model, [0.5, 0.1][k])
    bands = [0, 1, 2] if k == 0 or kind != "bands" else [3]
    norm = "chebyshev" if k == 0 or kind != "norm" else "euclidean"
    return SpectralMaskModel(model, bands, n_bands=4 + k * (kind == "n_bands"), norm=norm)


@pytest.mark.parametrize("kind", ["bands", "n_bands", "norm", "mean", "digits", "threshold"])
def test_kept_rows_are_not_another_models(tmp_path, kind):
    attacks = {"noise": A.LinfAdditiveUniformNoiseAttack()}  # thresholds have no gradient
    for model in (wrapped(kind, 0), wrapped(kind, 0)):
        robust_evaluation(model, batches(), attacks, [0.05], resume=tmp_path)
    with pytest.raises(InputError, match="holds another run: model was"):
        robust_evaluation(wrapped(kind, 1), batches(), attacks, [0.05], resume=tmp_path)


def test_kept_rows_are_of_the_same_logits(tmp_path):
    """Also where a model differs in something that its attributes do not show."""
    net = Counted().eval()

    class Hidden(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, x):
            return net(x).roll(self.shift, dims=1)

    for shift in (0, 3):
        model = Hidden(shift).eval()
        resumed = robust_evaluation(model, batches(), QUICK, [0.05], resume=tmp_path)
        plain = robust_evaluation(model, batches(), QUICK, [0.05])
        assert resumed.to_dict() == plain.to_dict()


def test_the_digest_is_the_same_for_a_model_made_anew():
    for kind in ("bands", "mean", "threshold"):
        assert fmodel_digest(wrapped(kind, 0)) == fmodel_digest(wrapped(kind, 0))
