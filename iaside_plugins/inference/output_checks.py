"""Outputs that are no logits, or are others from call to call: refused or said."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from iaside_plugins.errors import InputError
from iaside_plugins.inference.logits import logits_in, say_once
from iaside_plugins.inference.quantised import is_quantised
from iaside_plugins.storage.code import code_names, own_functions

SUM_TOLERANCE = 1e-3  # of the sum of a row of probabilities
HALF_SUM_TOLERANCE = 2e-2  # where they were computed in half precision
SIGMOID_ROWS = 8  # images before values in [0, 1] that do not sum to 1 are judged
SAME = 1e-3  # of the greatest logit of an image: rounding of another batch size gives 1e-6
HALF_SAME = 5e-2
AGAIN_ROWS = 2  # images of the first batch that run a second time
_PASSED_THROUGH = (  # what may follow a sigmoid or softmax and leave probabilities
    "Clone",
    "ToCopy",
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Alias",
    "Select",
    "Slice",
    "Clamp",
)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
PROGRAMS = (torch.jit.ScriptModule, fx.GraphModule)
STATISTICS = {  # by which code of the user's own may mix the images of a batch
    "batch_norm",
    "mean",
    "std",
    "var",
    "std_mean",
    "var_mean",
    "amin",
    "amax",
    "min",
    "max",
}
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
PROBABILITIES = (
    "return the logits, from before the {layer}; or, where there are only probabilities, their "
    "logarithm: probabilities.clamp_min(1e-12).log()"
)


@dataclass
class OutputCheck:
    """Whether outputs are logits, judged on the first images of a run, and never again.

    Rows in [0, 1] that each sum to 1 are probabilities: refused, once two of them differ.
    Values that all lie in [0, 1] and do not sum to 1 may be those of a sigmoid; they are refused
    where the model's last operation is one. Where it cannot be told, a warning is logged, after
    `SIGMOID_ROWS` images and with a value above 0.5.

    Attributes:
        model: The model, which is warned of once.
        half: Whether outputs were computed in half precision.
        done: Whether all has been judged.
    """

    model: Any = None
    half: bool = False
    done: bool = False
    _rows: int = 0
    _first: Tensor | None = None
    _differ: bool = False
    _sums: bool = True
    _high: bool = False
    _last: str | None = None

    def see(self, logits: Tensor, last_operation: Callable[[], str] = lambda: "") -> None:
        """Judge the outputs (N, n_classes) of one more pass.

        Args:
            logits: The outputs.
            last_operation: Returns "sigmoid" or "softmax" if the model ends in one, else "".

        Raises:
            InputError: They are probabilities.
        """
        if self.done or logits.ndim != 2 or not len(logits) or logits.shape[1] < 2:
            return
        rows = logits.detach().double()
        if not bool(((rows >= 0) & (rows <= 1 + 1e-6)).all()):
            self.done = True
            return
        tolerance = HALF_SUM_TOLERANCE if self.half else SUM_TOLERANCE
        self._sums &= bool(((rows.sum(dim=1) - 1).abs() <= tolerance).all())
        self._first = rows[0] if self._first is None else self._first
        self._differ |= bool((rows != self._first.to(rows)).any())
        self._high |= bool((rows > 0.5).any())
        self._rows += len(rows)
        if not self._differ:
            return
        if self._sums:
            raise InputError(
                "the model returns probabilities (every row lies in [0, 1] and sums to 1), "
                "expected logits: " + PROBABILITIES.format(layer="softmax")
            )
        if self._last is None:
            self._last = last_operation()
        if self._last == "sigmoid":
            raise InputError(
                "the model returns probabilities (it ends in a sigmoid), expected logits: "
                + PROBABILITIES.format(layer="sigmoid")
            )
        if self._rows < SIGMOID_ROWS or not self._high:
            return
        self.done = True
        say_once(
            self.model,
            f"all outputs of the model on the first {self._rows} images lie in [0, 1]: if they "
            "are probabilities, every number below is wrong; "
            + PROBABILITIES.format(layer="sigmoid"),
            "probabilities",
        )


def last_operation(model: Any, images: Tensor, *further: Any) -> str:
    """Return "sigmoid" or "softmax" if a model ends in one, by the graph of its gradient, else "".

    Args:
        model: Run once on the first image.
        images: (N, C, H, W).
        further: Other arguments of the model; with them all images run.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            some = images if further else images[:1]
            probe = some.detach().clone().requires_grad_()
            node = getattr(logits_in(model(probe.clone(), *further), model), "grad_fn", None)
    except (Exception, SystemExit):  # noqa: BLE001  it cannot be told
        return ""
    for _ in range(8):
        name = type(node).__name__.removesuffix("0").removesuffix("Backward")
        if "Sigmoid" in name or "Softmax" in name:
            return "" if name.startswith("Log") else name.lower().removeprefix("hard")
        if node is None or not name.startswith(_PASSED_THROUGH):
            return ""
        node = node.next_functions[0][0] if node.next_functions else None
    return ""


def random_state(device: torch.device) -> tuple[Any, ...]:
    """Return the states of the global generators: a pass that draws numbers changes one."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  a model may draw from it
    numpy_keys = np.asarray(keys).tobytes()
    state: list[Any] = [torch.get_rng_state().numpy().tobytes(), name, numpy_keys, *rest]
    if device.type == "cuda":
        state.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return *state, random.getstate()


@contextmanager
def said_if_random(model: Any, device: torch.device) -> Iterator[None]:
    """Log a warning, once for every model, if the passes inside draw random numbers."""
    before = random_state(device)
    yield
    if before != random_state(device):
        say_once(
            model,
            "the model draws random numbers (dropout, noise): the numbers below are those of one "
            "run only",
        )


def may_vary(model: Any) -> bool:
    """Return whether a model may hold a generator of its own, or normalise by the batch at hand.

    Of a callable that is no ``nn.Module`` nobody knows, not even in which mode its modules are, nor
    of a program in which mode it was traced. Of the user's own classes those that take `STATISTICS`
    may do so of the batch; modules of 8-bit integers may scale a batch by its greatest value, and
    those whose first axis is a sequence may be given the batch as one.
    """
    if not isinstance(model, nn.Module) or is_quantised(model):
        return True
    for part in model.modules():
        if isinstance(part, PROGRAMS) or getattr(part, "batch_first", True) is False:
            return True
        if isinstance(part, NORMS) and part.running_mean is None:
            return True
        if any(isinstance(one, GENERATORS) for one in vars(part).values()):
            return True
        if any(STATISTICS & code_names(one.__code__) for one in own_functions(type(part))):
            return True
    return False


@torch.no_grad()
def check_same_again(
    run: Any, head: Tensor, logits: Tensor, *, half: bool, model: Any = None
) -> None:
    """Log a warning if a model answers the same images otherwise in a second pass.

    Args:
        run: Runs the model.
        head: The first images of a batch, as they were before its pass.
        logits: What the pass gave them.
        half: Whether passes run in half precision.
        model: The model, which is warned of once.
    """
    try:
        again = logits_in(run(head), model)
    except (Exception, SystemExit):  # noqa: BLE001  a model of one shape of batches only
        return
    if not torch.is_tensor(again) or again.shape != logits.shape:
        return
    off = (again.to(logits) - logits).abs().amax(dim=1)
    size = logits.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    most = float((off / size).max())
    if most > (HALF_SAME if half else SAME):
        say_once(
            model,
            "the model answers the same images otherwise in a second pass (logits move by "
            f"{most:.2g} of the greatest): it draws random numbers (dropout, noise) or its answers "
            "depend on the other images of a batch; the numbers below are those of one run only",
            "random",
        )
