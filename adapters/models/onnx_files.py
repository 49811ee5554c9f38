"""ONNX files: networks of PyTorch where they can be converted, run by onnxruntime otherwise."""

from __future__ import annotations

import importlib
import logging
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.compat import with_torchvision
from iaside_plugins.adapters.models.classifier import LoadedNetwork
from iaside_plugins.adapters.models.file_kinds import check_is_weights
from iaside_plugins.adapters.models.hub_files import local_file
from iaside_plugins.adapters.models.onnx_digest import onnx_sha256
from iaside_plugins.adapters.models.onnx_operators import add_newer_operators
from iaside_plugins.adapters.models.shapes import ChannelsLast, InBatchesOf, geometry_of
from iaside_plugins.errors import InputError, MissingExtraError, error_text
from iaside_plugins.inference.logits import logits_in

SAME = 1e-4  # of the greatest logit: how far the two ways may differ
FREE_SIDE = 224  # pixels, of the images that a network of any size is compared on
_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphInput:
    """What the graph of an ONNX file says of its images.

    Attributes:
        name: Of the input.
        dtype: Of its values.
        batch: Images per batch; None for any number.
        channels: 1 or 3.
        height: In pixels; None for any.
        width: In pixels; None for any.
        channels_last: Whether its axes are (N, H, W, C).
    """

    name: str
    dtype: torch.dtype
    batch: int | None
    channels: int
    height: int | None
    width: int | None
    channels_last: bool

    @classmethod
    def of(cls, session: Any, source: str) -> GraphInput:
        """Read that of a session of onnxruntime.

        Raises:
            InputError: The graph does not take one batch of floating-point images.
        """
        found = session.get_inputs()
        if len(found) != 1 or len(found[0].shape) != 4 or found[0].type not in _TYPES:
            given = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in found)
            raise InputError(
                f"{source} must take one batch of floating-point images (N, C, H, W), it takes "
                f"{given or 'nothing'}"
            )
        shape = [side if isinstance(side, int) and side > 0 else None for side in found[0].shape]
        channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
        batch, channels, height, width = shape
        if channels_last:
            batch, height, width, channels = shape
        dtype = _TYPES[found[0].type]
        return cls(found[0].name, dtype, batch, channels or 3, height, width, channels_last)

    def example(self) -> torch.Tensor:
        """Return random images (N, C, H, W) in [0, 1], always the same."""
        sides = (self.height or FREE_SIDE, self.width or FREE_SIDE)
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.batch or 2, self.channels, *sides, generator=generator)


class OnnxRuntime(nn.Module):
    """An ONNX file that onnxruntime runs on the CPU: forward only, no gradient comes back.

    Args:
        file: The file.
        session: Of onnxruntime.
        images: What the graph takes.
    """

    def __init__(self, file: Path, session: Any, images: GraphInput) -> None:
        super().__init__()
        self.file = file
        self.input = images
        self._session = session

    def extra_repr(self) -> str:
        """Return the name of the input; the file's digest is that of the classifier's code."""
        return f"input={self.input.name!r}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the first output for images in the graph's own axes."""
        given = images.detach().to("cpu", self.input.dtype).contiguous().numpy()
        out = self._session.run([self._session.get_outputs()[0].name], {self.input.name: given})
        logits = torch.from_numpy(out[0])
        dtype = images.dtype if logits.is_floating_point() else logits.dtype
        return logits.to(images.device, dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session out of copies, which make their own."""
        return {**self.__dict__, "_session": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._session = _session(self.file)


def from_onnx(given: str, *, pretrained: bool) -> LoadedNetwork:
    """Load an ONNX file, differentiable where onnx2torch converts it to the same logits.

    Args:
        given: A path, or `hf:REPO/FILE`.
        pretrained: Must be true: the file holds its weights.

    Raises:
        InputError: The file cannot be had or read, or takes no images.
        MissingExtraError: onnxruntime is not installed.
    """
    if not pretrained:
        raise InputError(f"onnx:{given} holds its own weights; leave out the weights file")
    file, origin = local_file(given)
    if not file.is_file():
        raise InputError(f"no ONNX file at {file}; give the path of an existing file")
    check_is_weights(file)
    session = _session(file)
    images = GraphInput.of(session, file.name)
    net = _shaped(OnnxRuntime(file, session, images), images)
    converted, reason = _converted(file, images, net)
    if converted is None:
        _log.warning(
            "%s runs by onnxruntime on the CPU, forward only: attacks that need its gradient "
            "cannot be run on it (%s)",
            file.name,
            reason,
        )
    else:
        _log.info("%s is converted to PyTorch by onnx2torch, with gradients", file.name)
    if images.channels_last:
        _log.warning("%s takes its channels last; images are transposed for it", file.name)
    outputs = session.get_outputs()
    if len(outputs) > 1:
        _log.warning("%s has %d outputs; the first is taken", file.name, len(outputs))
    shape = outputs[0].shape
    found: Any = net if converted is None else converted
    digest = onnx_sha256(file)
    if shape and isinstance(shape[-1], int):
        found.num_classes = shape[-1]
    found.n_parameters, found.in_channels = _n_values(file, net), images.channels
    return LoadedNetwork(
        net=found.eval(),
        name=file.stem,
        architecture="onnxruntime" if converted is None else "onnx2torch",
        preprocessing=geometry_of(images.height, images.width, file.name),
        weights=origin,
        file=file,
        sha256=digest,
        code=digest,
        public_name=origin,
        says_preprocessing=False,
    )


def _shaped(net: nn.Module, images: GraphInput) -> nn.Module:
    """Return a network as a function of any batch of images (N, C, H, W)."""
    if images.channels_last:
        net = ChannelsLast(net)
    return net if images.batch is None else InBatchesOf(net, images.batch)


def _session(file: Path, simpler: Path | None = None) -> Any:
    """Open a file in onnxruntime, on the CPU.

    Args:
        file: The file.
        simpler: Where to write the graph with its constants computed; None writes nothing.
    """
    runtime = _library("onnxruntime")
    if runtime is None:
        raise MissingExtraError(
            "onnxruntime is not installed; ONNX files need it: pip install onnxruntime, and onnx "
            "onnx2torch for gradients"
        )
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()
    if simpler is not None:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(simpler)
    try:
        return runtime.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of its own kinds: no ONNX file, an operator it does not know
        reason = error_text(error, 300)
        raise InputError(f"{file.name} cannot be opened by onnxruntime: {reason}") from error


def _converted(
    file: Path, images: GraphInput, reference: nn.Module
) -> tuple[nn.Module | None, str]:
    """Return the file as a network of PyTorch, or None and why it is not used."""
    if _library("onnx2torch") is None:
        return None, "onnx2torch is not installed: pip install onnx2torch"
    add_newer_operators()
    net, reason = _converted_as(file, images, reference)
    if net is None:
        with tempfile.TemporaryDirectory() as folder:
            simpler = Path(folder) / "simpler.onnx"
            _session(file, simpler)
            net, _ = _converted_as(simpler, images, reference)
    return net, reason


def _converted_as(
    file: Path, images: GraphInput, reference: nn.Module
) -> tuple[nn.Module | None, str]:
    """Return the network of the very file, if it gives the logits of the reference."""
    convert = importlib.import_module("onnx2torch").convert
    example = images.example()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            net = _shaped(convert(str(file)).eval(), images)
            own = logits_in(net(example.to(images.dtype)), net)
            theirs = logits_in(reference(example), reference)
    except Exception as error:  # noqa: BLE001  an operator that is not known, shapes that do not fit
        reason = error_text(error, 200)
        return None, f"onnx2torch cannot convert it: {type(error).__name__}: {reason}"
    if own.shape != theirs.shape:
        return None, f"onnx2torch gives {tuple(own.shape)}, onnxruntime {tuple(theirs.shape)}"
    size = float(theirs.abs().max()) or 1.0
    off = float((own - theirs).abs().max()) / size
    if not off <= SAME:
        return None, f"onnx2torch gives other logits, by {off:.1g} of the greatest"
    return net, ""


def _n_values(file: Path, net: nn.Module) -> int:
    """Return the number of values that the graph holds, its weights."""
    onnx = _library("onnx")
    if onnx is None:
        return sum(parameter.numel() for parameter in net.parameters())
    graph = onnx.load(str(file), load_external_data=False).graph
    return sum(math.prod(one.dims) for one in graph.initializer)


def _library(name: str) -> ModuleType | None:
    """Import an optional library; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return with_torchvision(lambda: importlib.import_module(name))
    except ModuleNotFoundError:
        return None
