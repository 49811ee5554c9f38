"""I-ASIDE and Captum's methods on the same images and the same function, set side by side."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.captum_adapter import host as captum_host
from iaside_plugins.adapters.captum_adapter.methods import (
    METHODS,
    BandRun,
    find_method,
    rows_at_once,
)
from iaside_plugins.adapters.captum_adapter.metrics import (
    Metrics,
    fidelity_passes,
    residual_and_infidelity,
    sensitivity,
)
from iaside_plugins.attributions.agreement import MEASURES, AgreementReport, BandMethod
from iaside_plugins.attributions.band_space import BandSplit
from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.gradients import backward_failure
from iaside_plugins.protocol import METHOD_VERSION, Protocol
from iaside_plugins.seeds import preserved_generators
from iaside_plugins.storage.files import jsonable
from iaside_plugins.storage.provenance import model_identity, provenance
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import Progress, Work, added, times
from iaside_plugins.value_table.stream import Item, check_max_images, count, items

Array = npt.NDArray[np.float64]
DEFAULT_METHODS = (
    "ig",
    "saliency",
    "input_x_gradient",
    "gradient_shap",
    "feature_ablation",
    "occlusion",
    "shapley_sampling",
    "kernel_shap",
)
GROUP = 8  # images that go through a method together
INFIDELITY, SENSITIVITY = "infidelity", "sensitivity"  # their names among the parts of the work


def compare_attributions(  # noqa: PLR0913  the public signature
    model: Any,
    data: Any,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    protocol: Protocol | None = None,
    metrics: Metrics | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    resume: Path | str | None = None,
    max_images: int | None = None,
    info: dict[str, Any] | None = None,
    show_progress: bool = False,
) -> AgreementReport:
    """Compare I-ASIDE and Captum's methods, band by band, on the same images.

    All explain the log-likelihood of the true class, with a black baseline. Every method is tried
    on one image, cheaply, before the work begins.

    Args:
        model: (N, C, H, W) images in [0, 1] -> (N, n_classes) logits, in evaluation mode.
        data: (images, labels), or an iterable of such batches.
        methods: Among `METHODS`; I-ASIDE comes first whether it is named or not.
        protocol: Bands, norm and seed; the other choices must be the defaults, since Captum's
            methods know no others.
        metrics: Settings of infidelity and sensitivity.
        device: Where the model is; by default where its parameters are.
        batch_size: Rows in one forward pass, at most.
        resume: Folder in which finished images are stored; a run that stopped resumes from there.
        max_images: Stop after so many images.
        info: What else the report should say of the model.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: For input that cannot be used, before the work or as soon as it is met.
    """
    protocol = protocol or Protocol()
    metrics = metrics or Metrics()
    check_protocol(protocol)
    check_max_images(max_images)
    study = Study(
        model,
        check_methods(methods),
        protocol,
        metrics,
        model_device(model, device),
        batch_size,
    )
    identity = {
        **model_identity(model, resume),
        **run_identity(protocol, metrics, study.device, batch_size),
    }
    store = RowStore(resume, identity, width=protocol.n_bands + len(MEASURES))
    rows: dict[str, list[Array]] = {name: [] for name in study.names}
    ids: list[str] = []
    size = (0, 0)
    stream = items(data, protocol.n_bands, max_images)
    total = count(data, max_images)
    try:
        with Progress(None, show_progress) as bar:
            for group in _groups(stream):
                if not ids:
                    study.attempt(group[0])
                    if total is not None:
                        bar.set_work(added(*study.parts(total).values()))
                    size = (group[0].image.shape[1], group[0].image.shape[2])
                for name in study.names:
                    bar.set_description(name)
                    rows[name] += study.rows(name, group, len(ids), store)
                    bar.update(study.method_work(name, len(ids), len(group)))
                ids += [item.name for item in group]
    finally:
        store.flush()
    if not ids:
        raise InputError("no images: the data are empty")
    if study.right:  # of the images that were not finished before
        warn_at_chance(sum(study.right.values()), len(study.right), study.n_classes)
    return AgreementReport(
        methods=tuple(_band_method(name, np.stack(rows[name])) for name in study.names),
        protocol=protocol,
        image_size=size,
        ids=tuple(ids),
        info={
            "model": info or {"name": type(model).__name__},
            "settings": study.settings(),
            "provenance": provenance(study.device),
        },
    )


def comparison_work(
    model: Any,
    data: Any,
    names: Sequence[str],
    protocol: Protocol,
    metrics: Metrics,
    batch_size: int = 64,
) -> dict[str, Work]:
    """Return the work of a comparison by method, each tried on the first image, and of metrics.

    The arguments are those of `compare_attributions`, with data of a known number of images.

    Raises:
        InputError: A method cannot be used with the model, or there are no images.
    """
    study = Study(model, list(names), protocol, metrics, model_device(model), batch_size)
    first, n = next(items(data, protocol.n_bands, 1), None), count(data)
    if first is None or not n:
        raise InputError("no images: the data are empty")
    with preserved_generators(study.device):
        study.attempt(first)
    return study.parts(n)


@dataclass
class Study:
    """Explains images by each method and measures what that is worth and what it costs.

    Attributes:
        right: Digest of an image -> whether it is classified correctly, of those explained here.
        n_classes: Number of the model's outputs, once one is.
    """

    model: Any
    names: list[str]
    protocol: Protocol
    metrics: Metrics
    device: torch.device
    batch_size: int
    right: dict[str, bool] = field(default_factory=dict)
    n_classes: int = 0
    _runs: dict[str, BandRun] = field(init=False)
    _each: dict[str, Work] = field(default_factory=dict)  # of explaining one image
    _fidelity: Work = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._runs = {name: self._run(name, self.model) for name in self.names}

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on beside model, protocol and images, as JSON values."""
        options = {name: dict(find_method(name).options) for name in self.names}
        return {**vars(self.metrics), "batch_size": self.batch_size, "options": options}

    def _run(self, name: str, model: Any, **options: Any) -> BandRun:
        split = BandSplit(self.protocol.n_bands, self.protocol.band_norm)
        return BandRun(name, model, split, None, self.batch_size, self.protocol.seed, options)

    def attempt(self, item: Item) -> None:
        """Run every method on one image with its `trial` options, and count what it will do.

        What cannot work is said before the long work. The rows do not depend on the model or the
        size of images: they are counted with a tiny one.
        """
        image = item.image[None].to(self.device)
        tiny = image.new_full((1, 1, *[4 * self.protocol.n_bands] * 2), 0.5)
        for name in self.names:
            try:
                tried = self._run(name, self.model, **find_method(name).trial)
                tried.attribute(image, [item.label])
            except InputError:
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                instead = f"leave {name} out of methods=..."
                raise backward_failure(error, f"the method {name}", instead) from error
            counted = self._run(name, _Tiny().eval())
            counted.attribute(tiny, [0])
            backward = counted.gradient_rows
            self._each[name] = {"forward": counted.rows - backward, "gradient": backward}
        rows = rows_at_once(image, self.batch_size)
        self._fidelity = {"forward": fidelity_passes(self.metrics.n_perturbations, rows)}

    def method_work(self, name: str, first: int, n: int) -> Work:
        """Return the work of n images by one method, as `attempt` counted it, with the metrics'.

        Args:
            name: The method.
            first: Position of the first image: the sensitivity is measured on the first ones only.
            n: Images.
        """
        sensitive = min(max(self.metrics.n_sensitivity - first, 0), n)
        own = times(added(self._each[name], self._fidelity), n)
        return added(own, self._sensitivity(name, sensitive))

    def _sensitivity(self, name: str, n: int) -> Work:
        """Return the work of n images' sensitivity: each again, and every noisy copy."""
        return times(self._each[name], n * (1 + self.metrics.sensitivity_samples))

    def parts(self, n: int) -> dict[str, Work]:
        """Return the work of n images: of explaining them by each method, and of each metric."""
        parts: dict[str, Work] = {name: times(self._each[name], n) for name in self.names}
        parts[INFIDELITY] = times(self._fidelity, n * len(self.names))
        if sensitive := min(self.metrics.n_sensitivity, n):
            parts[SENSITIVITY] = added(*(self._sensitivity(name, sensitive) for name in self.names))
        return parts

    def rows(self, name: str, group: Sequence[Item], first: int, store: RowStore) -> list[Array]:
        """Return a group's rows by one method: attributions, then `MEASURES`; stored if any."""
        measured = [first + k < self.metrics.n_sensitivity for k in range(len(group))]
        keys = [
            f"{name}-{item.digest}-{int(sensitive)}"
            for item, sensitive in zip(group, measured, strict=True)
        ]
        if not all(key in store.rows for key in keys):
            for key, row in zip(keys, self._explain(name, group, measured), strict=True):
                store.add(key, row)
        return [store.rows[key] for key in keys]

    def _explain(self, name: str, group: Sequence[Item], measured: Sequence[bool]) -> list[Array]:
        run = self._runs[name]
        images = torch.stack([item.image for item in group]).to(self.device)
        labels = [item.label for item in group]
        before = run.rows, run.gradient_rows
        start = self._now()
        values = run.attribute(images, labels)
        seconds = self._now() - start
        costs = [
            (run.rows - before[0]) / len(group),
            (run.gradient_rows - before[1]) / len(group),
            seconds / len(group),
        ]
        out = []
        for k, item in enumerate(group):
            one, label, value = images[k : k + 1], labels[k], values[k : k + 1]
            seeds = self.protocol.seed, item.digest
            *fit, likelihoods = residual_and_infidelity(run, one, label, value, self.metrics, seeds)
            self.right[item.digest] = int(likelihoods.argmax()) == label
            self.n_classes = len(likelihoods)
            change = sensitivity(run, one, label, self.metrics, seeds) if measured[k] else np.nan
            tail = [*fit, change, *costs]
            out.append(np.concatenate([value[0].double().cpu().numpy(), tail]))
        return out

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class _Tiny(nn.Module):
    """A model of two classes that costs nothing, to count the rows that a method needs."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None] * images.new_tensor([-1.0, 2.0])


def _groups(stream: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield up to `GROUP` images of one shape that go through the methods together."""
    while group := list(islice(stream, GROUP)):
        if len({item.image.shape for item in group}) == 1:
            yield group
        else:
            yield from ([item] for item in group)


def run_identity(
    protocol: Protocol, metrics: Metrics, device: torch.device, batch_size: int
) -> dict[str, Any]:
    """Return what finished rows depend on beside the model and the images."""
    return {
        "method_version": METHOD_VERSION,
        **{f"protocol {name}": value for name, value in protocol.used().items() if name != "beta"},
        "seed": protocol.seed,
        "metrics": dict(vars(metrics)),
        "options": {name: jsonable(dict(one.options)) for name, one in METHODS.items()},
        "captum": captum_host.VERSION,
        "torch": str(torch.__version__),
        "device": device.type,
        "batch_size": batch_size,
    }


def check_methods(names: Iterable[str]) -> list[str]:
    """Return short names of methods, each once, I-ASIDE first whether it is named or not.

    Raises:
        InputError: For an unknown name.
        InputTypeError: For anything but names.
    """
    names = list(names) if not isinstance(names, str) else names.split(",")
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputTypeError(f"expected names of methods ({', '.join(METHODS)}), got {wrong[0]!r}")
    found = [find_method(name.strip()).name for name in names if name.strip()]
    return list(dict.fromkeys(["iaside", *found]))


def check_protocol(protocol: Protocol) -> None:
    """Refuse choices that Captum's methods do not know.

    Raises:
        InputError: For an estimator, absence, range handling or temperature other than the
            defaults.
        InputTypeError: For anything but a Protocol.
    """
    if not isinstance(protocol, Protocol):
        raise InputTypeError(f"expected a Protocol, got {protocol!r}")
    shared = {"estimator": "exact", "absence": "zero", "range_handling": "none", "temperature": 1.0}
    for name, value in shared.items():
        if getattr(protocol, name) != value:
            raise InputError(
                f"a comparison with Captum's methods needs {name}={value}, which they share, got "
                f"{getattr(protocol, name)!r}"
            )


def _band_method(name: str, rows: Array) -> BandMethod:
    """Return rows of attributions and `MEASURES` as one method's part of the report."""
    method = find_method(name)
    m = rows.shape[1] - len(MEASURES)
    return BandMethod(
        name=name,
        title=method.title,
        complete=method.complete,
        signed=method.signed,
        per_image=rows[:, :m],
        **dict(zip(MEASURES, rows[:, m:].T, strict=True)),
    )
