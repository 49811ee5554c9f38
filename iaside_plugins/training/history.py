"""SpectralHistory: importance and error decomposition of a model by epoch of its training."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.integers import as_integer
from iaside_plugins.protocol import Protocol, protocol_or
from iaside_plugins.storage.files import parse_json, read_npz, write_atomic
from iaside_plugins.training.measuring import measured
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.stream import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Bytes = npt.NDArray[np.uint8]
Result = SpectralImportance | ErrorDecomposition
KINDS: Mapping[str, type[SpectralImportance | ErrorDecomposition]] = {
    "importance": SpectralImportance,
    "decomposition": ErrorDecomposition,
}
PROTOCOL = "protocol"
_NAME = re.compile(rf"({'|'.join(KINDS)})-(\d{{1,15}})")  # of a stored result: its kind, its epoch
_log = logging.getLogger(__name__)


class SpectralHistory:
    """Records what the bands are worth to a model, and where its errors come from, by epoch.

    Call `record` after every epoch of a training loop: the model is measured in evaluation mode and
    left as it was, and the training goes on with the random numbers it would have had.

    Args:
        data: As for `spectral_importance`: images in [0, 1], the same at every record. None for a
            history that is only looked at.
        protocol: Every choice that changes a number; ``Protocol()`` by default.
        pairs: As for `error_decomposition`: clean and perturbed images, whose errors are split over
            the bands at every record too. By default they are not.
        every: Epochs from one record to the next; epochs that are multiples of it are recorded.
        wrap: A function of the model to the module that is measured, where that is another one: a
            normalisation and the model, if the training normalises in its data pipeline.
        batch_size: As for `spectral_importance`.
        precision: As for `spectral_importance`; "float64" for a model in double.
        max_images: Of the data and of the pairs; all by default.

    Attributes:
        importances: Epoch -> `SpectralImportance`.
        decompositions: Epoch -> `ErrorDecomposition`; empty without pairs.

    Raises:
        InputError: For arguments out of range, or data that can be read only once.
    """

    def __init__(
        self,
        data: Any = None,
        protocol: Protocol | None = None,
        *,
        pairs: Any = None,
        every: int = 1,
        wrap: Callable[[Any], Any] | None = None,
        batch_size: int | str = 64,
        precision: str = "float32",
        max_images: int | None = None,
    ) -> None:
        for name, given in (("data", data), ("pairs", pairs)):
            if hasattr(given, "__next__"):
                raise InputError(
                    f"{name} can be read only once, and are needed at every record: give a list "
                    "of batches, a DataLoader or tensors"
                )
        self.protocol = protocol_or(protocol, Protocol())
        self.importances: dict[int, SpectralImportance] = {}
        self.decompositions: dict[int, ErrorDecomposition] = {}
        self._data, self._pairs, self._wrap = data, pairs, wrap
        self._every, self._max_images = as_integer("every", every, 1), max_images
        self._choices: dict[str, Any] = {
            "batch_size": batch_size,
            "precision": precision,
            "max_images": max_images,
        }
        self._cost_said = False

    def record(self, model: nn.Module, epoch: int) -> SpectralImportance | None:
        """Measure the model and keep the result; None for an epoch that is not recorded.

        The cost is logged (level info) before the first time.

        Args:
            model: The model as it is trained, on any device and in any mode.
            epoch: Its number, 0 or more; any other count that grows, such as steps, will do.

        Raises:
            InputError: For input that cannot be used, as `spectral_importance` says, and for a
                history without data.
            InputTypeError: For another model than an `nn.Module`.
        """
        if not isinstance(model, nn.Module):
            raise InputTypeError(f"expected an nn.Module to record, got {type(model).__name__}")
        epoch = as_integer("epoch", epoch, 0)
        if self._data is None:
            raise InputError("this history has no data to record with: give data=(images, labels)")
        if epoch % self._every:
            return None
        self._say_cost()
        if epoch in self.importances:
            _log.warning("epoch %d was recorded before: replaced", epoch)
        device = next((one.device for one in model.parameters()), torch.device("cpu"))
        choices = {"device": device, **self._choices}
        with measured(model, device):
            subject = model if self._wrap is None else self._wrap(model)
            is_module = isinstance(subject, nn.Module)
            with measured(subject, device) if is_module else nullcontext():
                found = spectral_importance(subject, self._data, self.protocol, **choices)
                if self._pairs is not None:
                    chains = chains_like(self.protocol)
                    split = error_decomposition(subject, self._pairs, chains, **choices)
                    _check_same_images("pairs", split, self.decompositions)
                    self.decompositions[epoch] = split
        _check_same_images("images", found, self.importances)
        self.importances[epoch] = found
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return one row a recorded epoch.

        Accuracy, signed score with its interval, Shapley values `band_i` and standard errors
        `se_i` in nats; with pairs, the mean error under their conditions and the bands'
        contributions `error_band_i` to it, shares of images.
        """
        import pandas as pd

        return pd.DataFrame([self._row(epoch) for epoch in sorted(self.importances)])

    def to_csv(self, path: Path | str) -> None:
        """Write `to_frame` as CSV, whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        text = self.to_frame().to_csv(index=False, lineterminator="\n")
        write_atomic(Path(path), text.encode())

    def plot(self, name: str = "") -> Figure:
        """Plot nats by epoch and band, and below signed score and accuracy (needs matplotlib).

        Args:
            name: Name of the model, for the title.

        Raises:
            InputError: If nothing was recorded.
            MissingExtraError: If matplotlib is not installed.
        """
        from iaside_plugins.training.plots import plot_history

        return plot_history(self, name)

    def save(self, path: Path | str) -> None:
        """Write all results to one .npz file (no pickle), whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        with io.BytesIO() as file:
            np.savez(file, **self._packed())  # type: ignore[arg-type]  # of its other keyword
            write_atomic(Path(path), file.getvalue())

    @classmethod
    def load(cls, path: Path | str, data: Any = None, **arguments: Any) -> SpectralHistory:
        """Load what `save` wrote: to look at, or with data to go on recording.

        Nothing in the file is executed.

        Args:
            path: The file.
            data: As for the class; the other arguments too.
            **arguments: The protocol is that of the file, if it is not given.

        Raises:
            InputError: If the file is not a saved history, or of another protocol than the one
                that is given.
        """
        found = _unpacked(read_npz(Path(path)))
        arguments.setdefault("protocol", found.protocol)
        history = cls(data, **arguments)
        history._take(found)
        return history

    def state_dict(self) -> dict[str, Tensor]:
        """Return all results as tensors of bytes, for a checkpoint of the training."""
        return {name: torch.from_numpy(held) for name, held in self._packed().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the results of `state_dict` in place of those here.

        Raises:
            InputError: If it is no such state, or of another protocol.
        """
        self._take(_unpacked({name: held.cpu().numpy() for name, held in state.items()}))

    def __repr__(self) -> str:
        return f"SpectralHistory({len(self.importances)} epochs, {self.protocol.protocol_id})"

    def _say_cost(self) -> None:
        """Log what a record costs, once."""
        if self._cost_said:
            return
        self._cost_said = True
        passes = RowLayout(self.protocol).n_passes
        known = count(self._data, self._max_images)
        _log.info(
            "every record takes %d forward passes an image%s%s",
            passes,
            "" if known is None else f", {passes * known:,} for {known} images",
            ""
            if self._pairs is None
            else f"; of pairs, {RowLayout(chains_like(self.protocol), paired=True).n_passes} "
            "an image and condition",
        )

    def _row(self, epoch: int) -> dict[str, Any]:
        result = self.importances[epoch]
        low, high = result.signed_score_interval
        row = {
            "epoch": epoch,
            "n_images": result.n_images,
            "clean_accuracy": result.clean_accuracy,
            "signed_score": result.signed_score,
            "signed_score_low": low,
            "signed_score_high": high,
            **{f"band_{i}": value for i, value in enumerate(result.shapley_values)},
            **{f"se_{i}": value for i, value in enumerate(result.shapley_se)},
        }
        if epoch in self.decompositions:
            split = self.decompositions[epoch].error.over(None)
            row["perturbed_error"] = float(split.perturbed.value)
            row |= {f"error_band_{i}": value for i, value in enumerate(split.bands.value)}
        return row

    def _packed(self) -> dict[str, Bytes]:
        """Return every result as the bytes of its own file, by kind and epoch; and the protocol."""
        out = {PROTOCOL: _bytes(json.dumps(asdict(self.protocol)).encode())}
        with TemporaryDirectory() as folder:
            file = Path(folder) / "result.npz"
            for kind, results in self._results().items():
                for epoch, result in results.items():
                    result.save(file)
                    out[f"{kind}-{epoch}"] = _bytes(file.read_bytes())
        return out

    def _results(self) -> dict[str, Mapping[int, Result]]:
        return {"importance": self.importances, "decomposition": self.decompositions}

    def _take(self, found: _Held) -> None:
        """Keep results instead of those here.

        Raises:
            InputError: If they are of another protocol.
        """
        known = found.protocol or self.protocol
        if known.protocol_id != self.protocol.protocol_id:
            raise InputError(
                f"the history is of the protocol {known.protocol_id}, and this one of "
                f"{self.protocol.protocol_id}: give protocol= as it was"
            )
        self.importances = dict(found.results["importance"])
        self.decompositions = dict(found.results["decomposition"])


@dataclass(frozen=True)
class _Held:
    """What a file holds: results by kind and epoch, and their protocol if it is known."""

    protocol: Protocol | None
    results: dict[str, dict[int, Any]]


def _check_same_images(what: str, found: Result, earlier: Mapping[int, Result]) -> None:
    """Log a warning if the images are other ones than at the first record."""
    first = next(iter(earlier.values()), found)
    if sorted(first.ids) != sorted(found.ids):
        _log.warning(
            "the %s are other ones than at the first record (shuffled and cut, or augmented?): "
            "changes from epoch to epoch are those of the images, too",
            what,
        )


def _bytes(data: bytes) -> Bytes:
    return np.frombuffer(bytearray(data), np.uint8)


def _unpacked(held: Mapping[str, npt.NDArray[Any]]) -> _Held:
    """Return what `SpectralHistory._packed` holds; earlier versions held no protocol beside it.

    Raises:
        InputError: If something else is held.
    """
    out: dict[str, dict[int, Any]] = {kind: {} for kind in KINDS}
    protocol = None
    with TemporaryDirectory() as folder:
        file = Path(folder) / "result.npz"
        for name, array in held.items():
            found = _NAME.fullmatch(name)
            if name == PROTOCOL and array.dtype == np.uint8:
                protocol = Protocol.from_dict(parse_json(array.tobytes().decode()))
                continue
            if found is None or array.dtype != np.uint8:
                raise InputError(f"expected a saved SpectralHistory, got something named {name!r}")
            file.write_bytes(array.tobytes())
            out[found[1]][int(found[2])] = KINDS[found[1]].load(file)
    first = next(iter(out["importance"].values()), None)
    return _Held(protocol or (first and first.protocol), out)
