"""Guards around a model for code of other people, above all attacks, that changes hidden state."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.checks import check_eval_mode
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.seeds import preserved_generators

# Every place of the project that changes state of the whole process. Unless it says otherwise, the
# state is restored on leaving, also by an error; `warnings.catch_warnings` and `np.errstate`, which
# restore themselves, are not listed.
#
# random generators (torch, numpy, Python)  iaside_plugins.seeds; workflows.digits;
#                                           models.robustbench_preprocessing
# grad, inference and autocast modes        here; models.load; `torch.no_grad` wherever a model runs
# training mode of a given model            robustbench_adapter.request; training.measuring
# requires_grad of a given model            here
# hooks of a given model                    here, and foolbox_adapter.models, during an attack
# trace function (sys.settrace)             here: AutoAttack switches it off
# precision of float32 products             iaside_plugins.tensors
# torch's CPU threads                       inference.forward
# torch's GPU memory cache                  inference.runner: emptied where memory was short
# threads, backend flags and sys.path       parallel.session: of its own worker processes, not
#   of workers                              restored
# torch's check for waiting on the device   inference.forward, during a capture
# glibc's allocator                         allocator: permanently, in the command lines and in
#                                           worker processes
# threads of BLAS                           imagenet.stream: of its own worker processes
# signal mask                               parallel.processes, while it starts a worker
# Ctrl-C and sys.unraisablehook             interrupts: in the command line, permanently
# sys.path                                  models.local: the current directory, during an import
# sys.modules                               compat: what a failed import left is removed;
#                                           substitutes only while RobustBench is imported;
#                                           foolbox_adapter.advlib_apgd: adv-lib's module
# torch's operator registry                 compat: two signatures of torchvision, permanently
# torch's printing of onnx graphs           inference.onnx_session, during an export
# how processes are started                 parallel.processes: of its own worker processes
# timm.models._hub                          compat: a repair, permanently; models.hubs
# socket timeout                            models.downloads, during a download
# stdout and stderr                         models.downloads, models.robustbench_networks: in a
#                                           download; cli.stdout: the file descriptor of stdout
#                                           permanently
# levels and handlers of loggers            models.downloads, robustbench_adapter.autoattack;
#                                           models.programs, during a load; cli.command and
#                                           robustbench_adapter call logging.basicConfig
# bars and messages of huggingface_hub      models.hub_files, models.transformers_nets, during a
#   and transformers                        download or a load
# PIL.ImageFile.LOAD_TRUNCATED_IMAGES       imagenet.decoding
# RAY_USAGE_STATS_ENABLED                   ray_adapter: set permanently, unless it is set already


@contextmanager
def isolated(model: nn.Module, device: torch.device | str) -> Iterator[torch.device]:
    """Check a model and enter `attack_mode` and `plain_passes`; yield the device with its index.

    Args:
        model: Module in evaluation mode, (N, C, H, W) images in [0, 1] -> (N, n_classes) logits.
        device: Device that the model is on; the model is not moved.

    Raises:
        InputError: The model is in training mode or not on `device`.
        InputTypeError: The model is not an ``nn.Module``.
    """
    device = torch.empty(0, device=device).device  # "cuda" -> "cuda:0"
    check_model(model, device)
    with attack_mode(model.parameters(), device), plain_passes([model]):
        yield device


@contextmanager
def attack_mode(parameters: Iterable[Tensor], device: torch.device) -> Iterator[None]:
    """Let attacks run on models of these `parameters` without leaving anything changed.

    Inside, gradients are computed whatever the caller's mode, autocast is off, and the parameters
    are frozen, so that no ``.grad`` accumulates. On leaving, also by an error, ``requires_grad``,
    the global generators of torch (CPU and GPUs), numpy and Python, and Python's trace function
    (which AutoAttack's checks switch off) are restored.

    Args:
        parameters: Parameters of the models.
        device: Device of the models.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    trace = sys.gettrace()
    with (
        torch.inference_mode(False),  # implies the next one in torch 2.13, but no document says so
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        preserved_generators(device),
    ):
        try:
            for parameter in trainable:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)
            if sys.gettrace() is not trace:
                sys.settrace(trace)


@contextmanager
def plain_passes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let every pass of the modules see a copy of its images, and return its logits alone.

    Attacks run the same images many times, and a network may write into its input; and they know
    nothing of tuples and mappings. The hooks are removed on leaving, also by an error.
    """
    handles = []
    try:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks of its own
                handles.append(register_module_forward_pre_hook(partial(_only_of, module)))
                continue
            handles.append(module.register_forward_pre_hook(_copied_inputs))
            handles.append(module.register_forward_hook(_logits_alone))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _copied_inputs(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.clone() if torch.is_tensor(one) else one for one in inputs)


def _only_of(own: nn.Module, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    return _copied_inputs(module, inputs) if module is own else None


def _logits_alone(module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    return logits_in(output, module)


def check_model(model: nn.Module, device: torch.device) -> None:
    """Raise unless `model` is a module in evaluation mode whose every tensor is on `device`.

    Raises:
        InputError: The model is in training mode or not on `device`.
        InputTypeError: The model is not an ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            f"attacks need a torch.nn.Module, whose parameters can be frozen, got "
            f"{type(model).__name__}; wrap the callable in a module"
        )
    check_eval_mode(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device != device:
            raise InputError(
                f"expected the model on {device}, but {name} is on {tensor.device}; "
                f"call model.to({str(device)!r}), this package never moves a model"
            )


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators (CPU and `device`) and numpy's global one.

    Not torch.manual_seed: it would also reseed devices whose generators are not preserved.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def same_logits(before: ArrayLike, now: ArrayLike, tolerance: float) -> bool:
    """Return whether logits, or projections of them, are the same except for rounding.

    Args:
        before: (N, K), one row per image.
        now: As `before`.
        tolerance: Greatest difference, as a share of the largest absolute value of the row.
    """
    old, new = np.asarray(before), np.asarray(now)
    if old.shape != new.shape:
        return False
    return bool((np.abs(old - new) <= tolerance * np.abs(old).max(axis=1, keepdims=True)).all())
