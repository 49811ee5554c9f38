"""Classifiers of the kit in single precision against the oracles in double."""

from __future__ import annotations

import importlib.util
import json
import warnings

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import Protocol, spectral_importance


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
    spec = importlib.util.spec_from_file_location("tests_kit", folder / "kit.py")
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
