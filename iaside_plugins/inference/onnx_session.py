"""A torch model's forward passes by onnxruntime, on a CPU: a step of ``forwards="fast"``.

`tests/bench/bench_engines.py` measures what it gains.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from iaside_plugins.errors import InputError, how_to_install

NAMES = ["images", "logits"]


class OnnxSession:
    """A model traced once and run by onnxruntime.

    Args:
        model: (N, C, H, W) float32 images -> logits (N, n_classes); in evaluation mode.
        images: Of the shape that will come, any number of them.

    Raises:
        InputError: onnxruntime or onnx is not installed, the model decides by what it computes how
            it goes on, or the trace of one number of images does not hold for another.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        try:
            importlib.import_module("onnx")
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise InputError(f"onnxruntime is not installed: {how_to_install('onnx')}") from error
        with _NumbersRefused(), torch.no_grad():  # type: ignore[no-untyped-call]
            model(images.clone())
        file = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad(), _no_graph_printed():
            warnings.simplefilter("ignore")  # that a trace holds what Python did: it is compared
            torch.onnx.export(
                model,
                (images.clone(memory_format=torch.contiguous_format),),
                file,  # type: ignore[arg-type]  # the exporter by traces takes one
                dynamo=False,
                input_names=NAMES[:1],
                output_names=NAMES[1:],
                dynamic_axes={name: {0: "n"} for name in NAMES},
            )
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        self._session = runtime.InferenceSession(
            file.getvalue(), sess_options=options, providers=["CPUExecutionProvider"]
        )
        for some in (images[:1], images[-1:].flip(-1), images.flip(0)[: -(-len(images) // 2)]):
            with torch.no_grad():
                expected = model(some.clone())
            if not torch.allclose(self(some), expected, rtol=1e-3, atol=1e-3):
                raise InputError("a trace of the model gives other logits for other images")

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of images."""
        given = {NAMES[0]: images.contiguous().numpy()}
        return torch.from_numpy(self._session.run(NAMES[1:], given)[0])


@contextmanager
def _no_graph_printed() -> Iterator[None]:
    """Keep torch from printing the whole graph of a model that cannot be exported on stdout."""
    library: Any = torch._C
    printing = getattr(library, "_jit_onnx_log", None)
    if printing is None:
        yield
        return
    library._jit_onnx_log = lambda *_: None  # its own switch is turned on by every export
    try:
        yield
    finally:
        library._jit_onnx_log = printing


class _NumbersRefused(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises InputError where a model takes a number out of a tensor, as an `if` on one does.

    A trace would hold what came of it for these images alone.
    """

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise InputError("the model takes numbers out of tensors, which a trace would keep")
        return operation(*args, **(kwargs or {}))
