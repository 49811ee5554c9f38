"""Batch norms folded: the same function, fewer modules, the model untouched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from iaside_plugins.inference.folding import fold_batch_norms


def _lively(model: nn.Module) -> nn.Module:
    """Statistics and affine parameters that are not those of a fresh batch norm."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.track_running_stats:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return model.double().eval()


class WithActivation(nn.BatchNorm2d):
    """A batch norm with its activation inside, as some libraries have."""

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, f"expected 4 axes, got {x.ndim}")
        x = nn.functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            0.1,
            self.eps,
        )
        return x.relu()


class Shared(nn.Module):
    """A convolution that something else reads beside its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class Twice(nn.Module):
    """One convolution that runs twice, with a batch norm each time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.conv(self.one(self.conv(x))))


class Branching(nn.Module):
    """Code that torch.fx cannot trace around a part that it can."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if float(x.sum()) > 0 else self.body(-x)


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.BatchNorm2d(8, affine=False),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
        nn.BatchNorm1d(5),
    )


class Standardised(nn.Conv2d):
    """A convolution that does more with its weight than multiply by it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight / weight.std(), self.bias)


class Padded(nn.Conv2d):
    """A convolution of a kind of its own that is one all the same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


class Hooked(nn.Sequential):
    """Hooks change what a layer gives."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self[0].register_forward_hook(_twice)


def _twice(_module, _inputs, output):
    return 2 * output


def _parametrised() -> nn.Module:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def _of_the_batch() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize(
    ("build", "folded"),
    [
        (_plain, 3),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), WithActivation(4)), 1),
        (Branching, 1),
        (Shared, 0),
        (Twice, 2),
        (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), 0),
        (_of_the_batch, 0),
        (lambda: nn.Sequential(Padded(3, 4, 3), nn.BatchNorm2d(4)), 1),
        (lambda: nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)), 0),
        (_parametrised, 1),
        (Hooked, 0),
    ],
)
def test_the_folded_model_is_the_same_function(build, folded):
    model = _lively(build())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found, n = fold_batch_norms(model)
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(found(images), model(images), rtol=1e-12, atol=1e-12)
    assert n == folded
    norms = [
        [m for m in one.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        for one in (model, found)
    ]
    if type(model) is not nn.Sequential or not isinstance(model[1], WithActivation):
        assert len(norms[0]) - len(norms[1]) == folded
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_assertions_about_shapes_stay():
    model = _lively(nn.Sequential(nn.Conv2d(3, 4, 3), WithActivation(4)))
    found, n = fold_batch_norms(model)
    assert n == 1
    assert "_assert" in found.code


def test_one_layer_under_two_names_is_folded_for_one_of_them():
    conv = nn.Conv2d(3, 3, 3)
    model = _lively(nn.Sequential(nn.Sequential(conv, nn.BatchNorm2d(3)), conv))
    found, n = fold_batch_norms(model)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found(images), model(images), rtol=1e-12, atol=1e-12)
    assert n == 1
