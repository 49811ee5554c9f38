"""Input that cannot be used is refused with what was expected, what came, what to do."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.errors import InputTypeError
from iaside_plugins.inference.checks import model_device


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 12, 12, dtype=torch.uint8), r"torch\.uint8; .*float\(\) / 255"),
        (torch.zeros(1, 3, 12, 12, dtype=torch.int64), r"torch\.int64"),
        (np.zeros((1, 3, 12, 12), dtype=np.uint8), r"torch\.uint8"),
    ],
)
def test_integer_images_are_refused(run, images, message):
    labels = torch.zeros(1, dtype=torch.long)
    labels = labels if torch.is_tensor(images) else labels.numpy()
    with pytest.raises(InputTypeError, match=message):
        run(images=images, labels=labels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 3, 12, 12), -2.1), r"\[-2.1, -2.1\], beyond by 2.1; .*normalis"),
        (torch.full((1, 3, 12, 12), 255.0), r"\[255, 255\], .*divide by 255"),
        (torch.full((1, 3, 12, 12), float("nan")), r"\[nan, nan\]"),
        (torch.full((1, 3, 12, 12), 1.00001), r"in \[0, 1\]"),
        (torch.zeros(3, 12, 12), r"\(N, C, H, W\), got \(3, 12, 12\)"),
        (torch.zeros(1, 3, 12, 7), r"12 x 7 are too small for n_bands=4: .* = 8; .*<= 3"),
        (torch.zeros(1, 3, 7, 12), r"7 x 12 are too small"),
        (torch.zeros(1, 16, 16, 3), r"16 x 3 are too small.*the last axis: .*permute\(0, 3, 1, 2"),
    ],
)
def test_bad_images_are_refused(run, images, message):
    with pytest.raises(InputError, match=message):
        run(images=images, labels=torch.zeros(len(images), dtype=torch.long))


def test_labels_are_taken_as_a_list(run):
    labels = [0, 2, 1]
    assert run(labels=labels).labels.tolist() == labels
    for data in ([(oracles.sample(3)[0], labels)], (oracles.sample(3)[0].numpy(), tuple(labels))):
        found = spectral_importance(oracles.TinyNet(), data, Protocol(4))
        assert found.to_dict() == run(labels=labels).to_dict()


@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], [[0], [1, 2], [0]], [None] * 3])
def test_labels_that_are_no_numbers_are_refused(run, labels):
    with pytest.raises(InputError, match="labels as tensors, arrays or lists of numbers, got a"):
        run(labels=labels)


def test_rounding_beyond_the_unit_range_is_let_through(run):
    assert run(images=torch.full((1, 3, 12, 12), 1 + 5e-7)).n_images == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), r"shape \(3,\), one an image, got \(2,\)"),
        (torch.zeros(3, 3, dtype=torch.long), r"got \(3, 3\)"),
        (torch.tensor([0, 1, 3]), r"label 3 is out of range: .* 3 outputs \(labels 0 to 2\)"),
        (torch.tensor([0, -1, 2]), r"class indices .*got -1"),
        (torch.tensor([0.5, 1, 2]), r"class indices .*got 0\.5"),
        (torch.tensor([0, float("nan"), 2]), "class indices"),
    ],
)
def test_bad_labels_are_refused(run, labels, message):
    with pytest.raises(InputError, match=message):
        run(labels=labels)


def test_a_label_out_of_range_of_a_later_group_is_refused_too(run):
    with pytest.raises(InputError, match="label 3 is out of range: the model has 3 outputs"):
        run(labels=torch.tensor([0, 1, 3]), batch_size=16)  # one image in a group


def test_whole_labels_of_any_dtype_are_taken(run):
    images, labels = oracles.sample(3)
    expected = run(images=images, labels=labels).values
    for other in (labels.double(), labels.to(torch.uint8), labels.to(torch.int32)):
        np.testing.assert_array_equal(run(images=images, labels=other).values, expected)


@pytest.mark.parametrize("data", [[], (torch.zeros(0, 3, 12, 12), torch.zeros(0)), iter(())])
def test_no_images_are_refused(data):
    with pytest.raises(InputError, match="no images"):
        spectral_importance(oracles.TinyNet(), data, Protocol(4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "iterable of .* got int"),
        (torch.zeros(2, 3, 12, 12), "got Tensor"),
        ([(torch.zeros(1, 3, 12, 12),)], r"\(images, labels\) .* got tuple"),
        ([{"images": 1}], "got a mapping of images: give the labels"),
        ([(torch.zeros(2, 3, 12, 12), torch.zeros(2), ["only one"])], "1 ids for 2 images"),
    ],
)
def test_data_of_another_form_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        spectral_importance(oracles.TinyNet(), data, Protocol(4))


def test_a_model_in_training_mode_is_refused(run):
    with pytest.raises(InputError, match=r"the model is in training mode; call model\.eval\(\)"):
        run(model=oracles.TinyNet().train())
    net = nn.Sequential(nn.Dropout(), oracles.TinyNet()).eval()
    net[0].train()
    with pytest.raises(InputError, match="0 is in training mode"):
        run(model=net)


class Poisoned(oracles.TinyNet):
    """NaN for images whose mean lies within 1e-4 of a given one."""

    def __init__(self, mean: float):
        super().__init__()
        self.mean = mean

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hit = (images.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0] - self.mean).abs() < 1e-4
        return torch.where(hit, torch.nan, super().forward(images))


@pytest.mark.parametrize("batch_size", [4, 16, 64])
def test_non_finite_logits_name_the_image_and_the_coalition(batch_size):
    images, labels = oracles.sample(3)
    data = [(images, labels, ["first.png", "second.png", "third.png"])]
    net = Poisoned(float(images[1].mean()))  # every coalition with band 0 keeps the mean
    with pytest.raises(InputError, match=r"non-finite .* second\.png, coalition of bands \[0\]"):
        spectral_importance(net, data, Protocol(4), batch_size=batch_size)
    with pytest.raises(InputError, match=r"non-finite logits .* a black image"):
        spectral_importance(Poisoned(0.0), data, Protocol(4))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda x: x, r"\(1, 3, 12, 12\)"),
        (lambda x: x.mean(dim=(1, 2, 3)), r"\(1,\)"),
        (lambda x: torch.zeros(7, 3), r"\(7, 3\)"),
        (lambda x: ("no tensor", x), "tuple"),
        (lambda x: {"features": x}, r"a dict with the keys .features."),
    ],
)
def test_wrong_logits_are_refused(run, model, shape):
    with pytest.raises(
        InputError, match=rf"expected logits of shape \(1, n_classes\), got {shape}"
    ):
        run(model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "float32, float64, bfloat16, float16, got 'int8'"),
        ({"batch_size": 0}, "batch_size must be .*at least 1, got 0"),
        ({"batch_size": True}, "batch_size .* got True"),
        ({"batch_size": 2.5}, "batch_size .* got 2.5"),
        ({"max_images": 0}, "max_images must be .*at least 1, got 0"),
        ({"max_images": 1.5}, "max_images .* got 1.5"),
        ({"device": "meta"}, r"on cpu and device=meta .*model\.to\('meta'\)"),
        ({"precision": "float64"}, r"float64.*model\.double\(\)"),
    ],
)
def test_bad_options_are_refused(run, options, message):
    with pytest.raises(InputError, match=message):
        run(**options)


def test_the_device_is_the_models_own():
    assert model_device(oracles.TinyNet()) == torch.device("cpu")
    assert model_device(lambda x: x) == torch.device("cpu")
    assert model_device(lambda x: x, "meta") == torch.device("meta")
    assert model_device(nn.Flatten().eval(), "meta") == torch.device("meta")
