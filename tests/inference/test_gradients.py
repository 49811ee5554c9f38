"""What an attack by gradients sees: no gradient, none of use, or answers that change."""

from __future__ import annotations

import int8_nets
import numpy as np
import pytest
import torch
from foolbox_nets import Spoilt, images, small_net

from iaside_plugins.errors import InputError
from iaside_plugins.inference.gradients import (
    FINE,
    NON_FINITE,
    ZERO,
    GradientView,
    gradient_rows,
    try_first_gradient,
    try_gradient,
)

X = images(3)


@pytest.mark.parametrize(
    ("how", "kind"), [("rounded", ZERO), ("saturated", ZERO), ("not finite", NON_FINITE)]
)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_gradients_of_no_use_are_counted(how, kind, mode):
    net = Spoilt(how).eval()
    labels = net(X).argmax(1)
    with mode():
        rows = gradient_rows(net, X, labels)
        try_gradient(net, X)  # there is one
    assert rows.tolist() == [[kind, 0.0]] * 3
    view = GradientView.of(rows, np.array([True, True, False]))
    assert (view.n_images, view.n_zero + view.n_non_finite, view.n_varying) == (2, 2, 0)


def test_a_sound_net_and_one_that_varies():
    net, noisy = small_net(), Spoilt("dropout")
    before = torch.get_rng_state()
    assert gradient_rows(net, X, torch.arange(3)).tolist() == [[FINE, 0.0]] * 3
    varying = gradient_rows(noisy, X, torch.arange(3))
    assert varying[:, 1].tolist() == [1.0] * 3
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("how", ["no_grad", "detach", "inference", "numpy", "argmax"])
def test_a_missing_gradient_is_refused(how):
    with pytest.raises(InputError, match="the model gives none with respect to its images"):
        try_gradient(Spoilt(how), X)


@pytest.mark.parametrize("make", [int8_nets.static, int8_nets.dynamic])
@pytest.mark.filterwarnings("ignore:.*(quantize|autograd kernel):UserWarning")
def test_integers_have_no_gradients(make):
    with pytest.raises(InputError, match="a model of 8-bit integers has none: give"):
        try_gradient(make(), torch.rand(2, 3, 32, 32))


def test_a_backward_pass_that_fails_is_named():
    with pytest.raises(InputError, match="backward pass failed: NotImplementedError: no kernel"):
        try_first_gradient(Spoilt("backless"), [(X[:0], None), (X, None)], X.device)


def test_a_stream_that_is_read_once_is_left_alone():
    stream = iter([(X, None)])
    try_first_gradient(Spoilt("no_grad"), stream, X.device)
    assert len(list(stream)) == 1
