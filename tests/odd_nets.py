"""Networks as people bring them, and worse; the fuzz names them as python:odd_nets:FACTORY."""

from __future__ import annotations

from typing import Any

import torch
from tiny_model import Counted
from torch import Tensor, nn


class Odd(Counted):
    """A sound network whose logits pass through `change`."""

    def __init__(self, change: Any, n_classes: int = 10) -> None:
        super().__init__()
        self.change = change
        self.calls = 0
        if n_classes != 10:
            self.head = nn.Linear(self.head.in_features, n_classes)
            self.num_classes = n_classes

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.change(super().forward(x))


class BadBackward(torch.autograd.Function):
    """Raises what is not a RuntimeError where a gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise KeyError("no gradient\nof this layer")


class NanBackward(BadBackward):
    """A gradient that is not finite."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.nan


class WithoutParameters(nn.Module):
    """Ten logits of the pixels, and nothing to learn."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3))[:, None] * torch.arange(10.0, device=x.device)


def _raising(error: BaseException) -> Any:
    def change(logits: Tensor) -> Tensor:
        raise error

    return lambda: Odd(change)


def late() -> nn.Module:
    """Fails after some passes."""
    net = Odd(None)

    def change(logits: Tensor) -> Tensor:
        if net.calls > 6:
            raise IndexError("list index out of range")
        return logits

    net.change = change
    return net


sound = lambda: Odd(lambda z: z)  # noqa: E731
assertion = _raising(AssertionError("Input height (32) doesn't match model (224)."))
stops = _raising(StopIteration())
key = _raising(KeyError(7))
multiline = _raising(ValueError("one\ntwo\n\nthree"))
silent = _raising(RuntimeError())
leaves = _raising(SystemExit(3))
recursion = _raising(RecursionError("maximum recursion depth exceeded"))
memory = _raising(MemoryError())
unicode = _raising(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
group = _raising(OSError(28, "No space left on device"))
no_gradient = lambda: Odd(lambda z: z.detach())  # noqa: E731
bad_backward = lambda: Odd(BadBackward.apply)  # noqa: E731
nan_backward = lambda: Odd(NanBackward.apply)  # noqa: E731
hard = lambda: Odd(lambda z: torch.nn.functional.one_hot(z.argmax(1), 10).float())  # noqa: E731
probabilities = lambda: Odd(lambda z: z.softmax(1))  # noqa: E731
sigmoid = lambda: Odd(lambda z: z.sigmoid())  # noqa: E731
constant = lambda: Odd(lambda z: z * 0)  # noqa: E731
infinite = lambda: Odd(lambda z: z / 0)  # noqa: E731
huge = lambda: Odd(lambda z: z * 1e30)  # noqa: E731
tiny = lambda: Odd(lambda z: z * 1e-30)  # noqa: E731
random = lambda: Odd(lambda z: z + torch.rand_like(z))  # noqa: E731
dropout = lambda: Odd(lambda z: nn.functional.dropout(z, 0.5))  # noqa: E731
half = lambda: Odd(lambda z: z).half()  # noqa: E731
double = lambda: Odd(lambda z: z).double()  # noqa: E731
as_tuple = lambda: Odd(lambda z: (z, None))  # noqa: E731
as_mapping = lambda: Odd(lambda z: {"logits": z, "features": z})  # noqa: E731
no_logits = lambda: Odd(lambda z: {"boxes": z})  # noqa: E731
nothing = lambda: Odd(lambda z: None)  # noqa: E731
text = lambda: Odd(lambda z: "cat")  # noqa: E731
integers = lambda: Odd(lambda z: z.long())  # noqa: E731
complex_ = lambda: Odd(lambda z: z + 1j)  # noqa: E731
one_row = lambda: Odd(lambda z: z[:1])  # noqa: E731
flat = lambda: Odd(lambda z: z.flatten())  # noqa: E731
maps = lambda: Odd(lambda z: z[:, :, None, None].expand(-1, -1, 2, 2))  # noqa: E731
empty = lambda: Odd(lambda z: z[:, :0])  # noqa: E731
squeezed = lambda: Odd(lambda z: z.squeeze())  # noqa: E731
two = lambda: Odd(lambda z: z, 2)  # noqa: E731
one = lambda: Odd(lambda z: z, 1)  # noqa: E731
more = lambda: Odd(lambda z: z, 1001)  # noqa: E731
without_parameters = WithoutParameters
training = lambda: Odd(lambda z: z).train()  # noqa: E731
NAMES = tuple(name for name, one in list(vars().items()) if callable(one) and name[0].islower())
