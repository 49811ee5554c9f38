"""Files that hold a program: TorchScript and `torch.export`. Loading one runs what is in it.

They are named by prefixes of their own, so that nobody runs one unawares: only files of people
whom the user trusts.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.models.classifier import LoadedNetwork
from iaside_plugins.adapters.models.file_kinds import check_is_weights, is_torchscript
from iaside_plugins.adapters.models.hub_files import local_file
from iaside_plugins.adapters.models.shapes import InBatchesOf, geometry_of
from iaside_plugins.adapters.models.weights import file_sha256
from iaside_plugins.errors import InputError, error_text

_log = logging.getLogger(__name__)


def from_torchscript(given: str, *, pretrained: bool) -> LoadedNetwork:
    """Load a TorchScript archive (`torch.jit.save`); the program in it runs.

    Args:
        given: A path, or `hf:REPO/FILE`.
        pretrained: Must be true: the file holds its weights.

    Raises:
        InputError: The file cannot be had or read.
    """
    file, origin = _program("torchscript", given, pretrained)
    if not is_torchscript(file):
        raise InputError(
            f"{file.name} is no TorchScript archive; if it holds weights, give their architecture "
            f"as the model, such as timm:resnet18, and weights={file.name}"
        )
    try:
        net = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise _unreadable(file, "TorchScript", error) from error
    return _loaded(net.eval(), file, origin, (None, None))


def from_export(given: str, *, pretrained: bool) -> LoadedNetwork:
    """Load a program of `torch.export.save`; what is pickled in it runs.

    Args:
        given: A path, or `hf:REPO/FILE`.
        pretrained: Must be true: the file holds its weights.

    Raises:
        InputError: The file cannot be had or read, or does not take one batch of images.
    """
    file, origin = _program("export", given, pretrained)
    try:
        with _quiet():
            program = torch.export.load(file)
            net: nn.Module = program.module()
    except Exception as error:
        raise _unreadable(file, "torch.export", error) from error
    batch, height, width = _shape(program, file)
    if batch is not None:
        _log.warning(
            "%s was exported for batches of %d images; they run in such batches. With "
            "dynamic_shapes=({0: torch.export.Dim.AUTO},) it takes any number",
            file.name,
            batch,
        )
        net = InBatchesOf(net, batch)
    return _loaded(net, file, origin, (height, width))


def _program(prefix: str, given: str, pretrained: bool) -> tuple[Path, str]:
    """Return the file of a program, and where it is from."""
    if not pretrained:
        raise InputError(f"{prefix}:{given} holds its own weights; leave out the weights file")
    file, origin = local_file(given)
    if not file.is_file():
        raise InputError(f"no file at {file}; give the path of an existing file")
    check_is_weights(file)
    _log.info("%s holds a program, which runs now", file.name)
    return file, origin


def _shape(program: Any, file: Path) -> tuple[int | None, int | None, int | None]:
    """Return batch, height and width that a program was exported for; None where any will do."""
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    shapes = [tuple(n.meta["val"].shape) for n in nodes if n.name in names and "val" in n.meta]
    if len(names) != 1 or len(shapes) != 1 or len(shapes[0]) != 4:
        raise InputError(
            f"{file.name} must take one batch of images (N, C, H, W), it takes {len(names)} inputs "
            f"of shapes {', '.join(map(str, shapes)) or 'unknown'}"
        )
    batch, _, height, width = (s if isinstance(s, int) else None for s in shapes[0])
    return batch, height, width


def _loaded(
    net: nn.Module, file: Path, origin: str, sides: tuple[int | None, int | None]
) -> LoadedNetwork:
    """Return what is known of the network of a program."""
    return LoadedNetwork(
        net=net,
        name=file.stem,
        architecture=getattr(net, "original_name", None) or type(net).__name__,
        preprocessing=geometry_of(*sides, file.name),
        weights=origin,
        file=file,
        code=file_sha256(file),
        public_name=origin,
        says_preprocessing=False,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's warnings and messages: what fails is raised too, and said in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _unreadable(file: Path, kind: str, error: Exception) -> InputError:
    reason = error_text(error, 200)
    return InputError(f"{file.name} cannot be read as {kind} ({type(error).__name__}: {reason})")
