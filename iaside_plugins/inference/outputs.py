"""What a model returns: taken as logits, or refused with the cause.

A network may return a mapping or a tuple that holds its logits, probabilities instead of them,
other answers from call to call, or an error. All doors of the project read outputs by these
functions, so that each of those is met in the same way.
"""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError
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
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_log = logging.getLogger(__name__)
_told: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # warnings by model

PROBABILITIES = (
    "return the logits, from before the {layer}; or, where there are only probabilities, their "
    "logarithm: probabilities.clamp_min(1e-12).log()"
)


# ---- passes --------------------------------------------------------------------------------
def run_model(model: Any, images: Tensor, *further: Any) -> Any:
    """Return what a model gives; whatever else it raises becomes an InputError with its cause.

    Args:
        model: Called with the images and the further arguments.
        images: (N, C, H, W).
        further: Its other arguments.

    Raises:
        InputError: The model fails; out of memory is raised as it is, for others to try less.
    """
    try:
        return model(images, *further)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise model_failure("the model", model, images, error) from error


def model_failure(name: str, model: Any, images: Tensor, error: BaseException) -> InputError:
    """Return the error for a model that failed on images: what it said, and what to do.

    Args:
        name: What the model is called.
        model: The model, which may be asked once more to find the cause.
        images: (N, C, H, W).
        error: What it raised.
    """
    reason = (str(error).strip() or "no reason given").splitlines()[0][:300]
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        kind, reason = "it called exit()", "a model must return logits"
    said = reason if type(error) is RuntimeError else f"{kind}: {reason}"
    return InputError(
        f"{name} failed on images of shape {tuple(images.shape)}: {said.rstrip('.')}; "
        + _remedy(model, images, error)
    )


def _remedy(model: Any, images: Tensor, error: BaseException) -> str:
    """Return what to do about a model that failed."""
    if is_out_of_memory(error):
        return "lower batch_size, or use smaller images: check resize and crop"
    if precision := _other_precision(model, images):
        return precision
    if takes_pixel_values(model):
        return "it takes its images by name: give lambda x: model(pixel_values=x).logits instead"
    again = not isinstance(error, SystemExit)
    if again and len(images) == 1 and _runs(model, images.repeat(2, *[1] * (images.ndim - 1))):
        return (
            "it runs on two images and fails on a single one: keep the axis of images, for "
            "example flatten(1) instead of squeeze()"
        )
    if again and images.ndim == 4 and images.shape[1] == 3 and _runs(model, images[:, :1]):
        return (
            "it runs on images of one channel: give it those; commands read images in grey where "
            "the network says net.in_channels = 1"
        )
    return "check resize and crop, or lower batch_size where memory is short"


def _runs(model: Any, images: Tensor) -> bool:
    """Return whether a model takes these images, whatever it makes of them."""
    try:
        with torch.no_grad():
            model(images.detach())
    except (Exception, SystemExit):  # noqa: BLE001  it fails on others too
        return False
    return True


def takes_pixel_values(model: Any) -> bool:
    """Return whether a model takes images as `pixel_values`, and not as its first argument."""
    try:
        given = inspect.signature(getattr(model, "forward", model)).parameters
    except (TypeError, ValueError):  # a program without a signature
        return False
    if "pixel_values" not in given:
        return False
    by_name = given["pixel_values"].kind is inspect.Parameter.KEYWORD_ONLY
    return by_name or next(iter(given)) != "pixel_values"


def _other_precision(model: Any, images: Tensor) -> str:
    """Return what to do where no weight has the images' precision; empty if one has."""
    if not isinstance(model, nn.Module):
        return ""
    if is_quantised(model) and images.dtype != torch.float32:
        return "it computes with 8-bit integers, from float32 images: use precision='float32'"
    found = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    if not found or images.dtype in found:
        return ""
    own = str(next(iter(found))).removeprefix("torch.")
    ways = f"precision='{own}'" if own in ("float64", "float16", "bfloat16") else ""
    return (
        f"its weights are {own} and the images {str(images.dtype).removeprefix('torch.')}: "
        "call model.float() before" + (f", or use {ways}" if ways else "")
    )


# ---- shapes --------------------------------------------------------------------------------
def logits_in(output: Any, model: Any = None) -> Any:
    """Return the logits of what a model returned; said once where it returned more than a tensor.

    A `ModelOutput` of Hugging Face or a mapping gives its `logits`, a tuple or list its first
    tensor; integers become floats. Anything else is returned as it is, for the caller to check.

    Args:
        output: Of the model.
        model: For the message.

    Raises:
        InputError: For complex numbers.
    """
    if torch.is_tensor(output):
        return _floats(output)
    found, what = None, ""
    if isinstance(output, Mapping):
        found, what = output.get("logits"), f"{_one(output)} with {_keys(output)}"
        where = "its 'logits'"
    elif torch.is_tensor(getattr(output, "logits", None)):
        found, what, where = output.logits, _one(output), "its logits"
    elif isinstance(output, (tuple, list)) and output:
        found, what = output[0], f"{_one(output)} of {len(output)}"
        where = "the first of them"
    if not torch.is_tensor(found):
        return output
    _say_once(model, f"{_called(model)} returns {what}: {where} is taken as the logits")
    return _floats(found)


def _floats(logits: Tensor) -> Tensor:
    if logits.is_complex():
        raise InputError(
            f"expected logits that are real numbers, got {logits.dtype}; return one real number a "
            "class, for example logits.abs() or logits.real"
        )
    if logits.is_quantized:
        return logits.dequantize()
    return logits if logits.is_floating_point() else logits.to(torch.get_default_dtype())


def described(output: Any) -> str:
    """Return shape or type of an output, for messages."""
    if torch.is_tensor(output):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {_keys(output)} and no tensor 'logits'"
    return type(output).__name__


def _keys(output: Mapping[Any, Any]) -> str:
    names = [repr(key) for key in output][:5]
    return f"the keys {', '.join(names)}" if names else "no keys"


def _one(output: Any) -> str:
    name = type(output).__name__
    return f"an {name}" if name[0] in "AEIOUaeiou" else f"a {name}"


def _called(model: Any) -> str:
    return "the model" if model is None else f"the model ({type(model).__name__})"


def _say_once(model: Any, text: str, kind: str = "") -> None:
    """Log a warning once for every model, also where a run is made of several."""
    kind = kind or text
    try:
        if kind in (told := _told.setdefault(model, set())):
            return
        told.add(kind)
    except TypeError:  # a model without a weak reference
        pass
    _log.warning("%s", text)


# ---- values --------------------------------------------------------------------------------
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
        _say_once(
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
        _say_once(
            model,
            "the model draws random numbers (dropout, noise): the numbers below are those of one "
            "run only",
        )


def may_vary(model: Any) -> bool:
    """Return whether a model may hold a generator of its own, or normalise by the batch at hand.

    Of a callable that is no ``nn.Module`` nobody knows, not even in which mode its modules are. Of
    the user's own classes those that call ``batch_norm`` themselves may use the batch.
    """
    if not isinstance(model, nn.Module):
        return True
    for part in model.modules():
        if isinstance(part, NORMS) and part.running_mean is None:
            return True
        if any(isinstance(one, GENERATORS) for one in vars(part).values()):
            return True
        if any("batch_norm" in code_names(one.__code__) for one in own_functions(type(part))):
            return True
    return False


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
        _say_once(
            model,
            "the model answers the same images otherwise in a second pass (logits move by "
            f"{most:.2g} of the greatest): it draws random numbers (dropout, noise) or its answers "
            "depend on the other images of a batch; the numbers below are those of one run only",
            "random",
        )
