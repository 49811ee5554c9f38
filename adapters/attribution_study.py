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
from torch import Tensor

from iaside_plugins.absence import seed_of
from iaside_plugins.adapters import captum_host
from iaside_plugins.adapters.captum_catalogue import find_method
from iaside_plugins.adapters.captum_methods import BandRun
from iaside_plugins.adapters.randomness import preserved_generators, seed_generators
from iaside_plugins.agreement import COSTS, AgreementReport, BandMethod
from iaside_plugins.band_space import BandSplit
from iaside_plugins.errors import InputError
from iaside_plugins.game import model_device
from iaside_plugins.protocol import Protocol
from iaside_plugins.provenance import model_digest, provenance
from iaside_plugins.store import RowStore
from iaside_plugins.stream import Item, count, items, progress_bar

Array = npt.NDArray[np.float64]
DEFAULT_METHODS = (
    "ig", "saliency", "input_x_gradient", "gradient_shap", "feature_ablation", "occlusion",
    "shapley_sampling", "kernel_shap",
)  # fmt: skip
GROUP = 8  # images that go through a method together


@dataclass(frozen=True)
class Metrics:
    """Settings of Captum's two metrics.

    Attributes:
        n_perturbations: Random band droppings an image for the infidelity: every band is taken
            away with probability 1/2. The attributions are first scaled to fit best (Captum's
            ``normalize=True``), so that those without a unit can be compared.
        n_sensitivity: Images on which the sensitivity is measured, the first ones.
        sensitivity_samples: Perturbed images for each.
        sensitivity_radius: Greatest change of a pixel, uniform.
    """

    n_perturbations: int = 32
    n_sensitivity: int = 16
    sensitivity_samples: int = 4
    sensitivity_radius: float = 0.02

    def __post_init__(self) -> None:
        for name in ("n_perturbations", "n_sensitivity", "sensitivity_samples"):
            value, least = getattr(self, name), int(name != "n_sensitivity")
            if type(value) is not int or value < least:
                raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
        if not self.sensitivity_radius > 0:
            raise InputError(f"sensitivity_radius must be above 0, got {self.sensitivity_radius}")


def compare_attributions(
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
    """I-ASIDE and Captum's methods, band by band, on the same images.

    All explain the log-likelihood of the true class, with a black baseline. Every method is tried
    on one image before the work begins.

    Args:
        model: (N, C, H, W) images in [0, 1] -> (N, n_classes) logits, in evaluation mode.
        data: (images, labels), or an iterable of such batches.
        methods: Among `METHODS`; I-ASIDE comes first whether it is named or not.
        protocol: Bands, norm, estimator and seed; the other choices must be the defaults, since
            Captum's methods know no others.
        metrics: Settings of infidelity and sensitivity.
        device: Where the model is; by default where its parameters are.
        batch_size: Rows in one forward pass, at least.
        resume: Folder in which finished images are kept; a run that stopped goes on from there.
        max_images: Stop after so many images.
        info: What else the report should say of the model.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: For input that cannot be used, before the work or as soon as it is met.
    """
    protocol = protocol or Protocol()
    check_protocol(protocol)
    study = Study(
        model, check_methods(methods), protocol, metrics or Metrics(),
        model_device(model, device), batch_size,
    )  # fmt: skip
    identity = {
        "model": model_digest(model) if resume is not None else None,
        **{f"protocol {name}": value for name, value in protocol.used().items() if name != "beta"},
        "metrics": vars(study.metrics).copy(),
        "captum": captum_host.VERSION,
    }
    store = RowStore(resume, identity)
    rows: dict[str, list[Array]] = {name: [] for name in study.names}
    seen: list[Item] = []
    stream = items(data, protocol.n_bands, max_images)
    total = count(data, max_images)
    try:
        with progress_bar(None if total is None else total * len(rows), show_progress) as bar:
            bar.unit = "explanation"
            for group in _groups(stream):
                if not seen:
                    study.probe(group[0])
                for name in study.names:
                    bar.set_description(name, refresh=False)
                    rows[name] += study.rows(name, group, len(seen), store)
                    bar.update(len(group))
                seen += group
    finally:
        store.flush()
    if not seen:
        raise InputError("no images: the data are empty")
    return AgreementReport(
        methods=tuple(_band_method(name, np.stack(rows[name])) for name in study.names),
        protocol=protocol,
        image_size=(seen[0].image.shape[1], seen[0].image.shape[2]),
        ids=tuple(item.name for item in seen),
        info={
            "model": info or {"name": type(model).__name__},
            "settings": {
                **vars(study.metrics),
                "batch_size": batch_size,
                "options": {name: dict(find_method(name).options) for name in study.names},
            },
            "provenance": provenance(study.device),
        },
    )


@dataclass
class Study:
    """Explains images by each method and measures what that is worth and what it costs."""

    model: Any
    names: list[str]
    protocol: Protocol
    metrics: Metrics
    device: torch.device
    batch_size: int
    _split: BandSplit = field(init=False)
    _runs: dict[str, BandRun] = field(init=False)

    def __post_init__(self) -> None:
        self._split = BandSplit(self.protocol.n_bands, self.protocol.band_norm)
        self._runs = {
            name: BandRun(
                name, self.model, self._split, batch_size=self.batch_size,
                seed=self.protocol.seed, options=_options(name, self.protocol),
            )
            for name in self.names
        }  # fmt: skip

    def probe(self, item: Item) -> None:
        """Run every method on one image: what cannot work is said before the long work."""
        for run in self._runs.values():
            run.attribute(item.image[None].to(self.device), [item.label])

    def rows(self, name: str, group: Sequence[Item], first: int, store: RowStore) -> list[Array]:
        """Rows of a group by one method: attributions, then `COSTS`; from the store if there."""
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
            (run.rows - before[0]) / len(group), (run.gradient_rows - before[1]) / len(group),
            seconds / len(group),
        ]  # fmt: skip
        out = []
        for k, item in enumerate(group):
            one, label, value = images[k : k + 1], labels[k], values[k : k + 1]
            residual, unfaithful = self._fit(item, one, label, value)
            sensitive = self._sensitivity(run, item, one, label) if measured[k] else np.nan
            tail = [residual, unfaithful, sensitive, *costs]
            out.append(np.concatenate([value[0].double().cpu().numpy(), tail]))
        return out

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _fit(self, item: Item, image: Tensor, label: int, value: Tensor) -> tuple[float, float]:
        """Completeness residual (nats), and Captum's infidelity (nats squared), of one image."""
        forward = self._split.gate_forward(self.model)
        stack = self._split(image)
        gates = torch.ones(1, self.protocol.n_bands, dtype=image.dtype, device=self.device)
        n = self.metrics.n_perturbations

        def drop(inputs: Tensor) -> tuple[Tensor, Tensor]:
            dropped = (torch.rand(inputs.shape) < 0.5).to(inputs)
            return dropped, inputs - dropped

        with torch.no_grad(), preserved_generators(self.device):
            gain = forward(gates, stack)[0, label] - forward(0 * gates, stack)[0, label]
            # The same droppings for every method.
            seed_generators(seed_of("infidelity", self.protocol.seed, item.digest), self.device)
            unfaithful = captum_host.metrics.infidelity(
                forward, drop, gates, value, additional_forward_args=(stack,), target=label,
                n_perturb_samples=n,
                max_examples_per_batch=min(self.batch_size, n), normalize=True,
            )  # fmt: skip
        residual = value.double().sum() - gain.double()
        return float(residual), float(unfaithful[0])

    def _sensitivity(self, run: BandRun, item: Item, image: Tensor, label: int) -> float:
        """Captum's greatest relative change of one image's attributions under small noise."""

        def explain(inputs: tuple[Tensor, ...], target: Any) -> tuple[Tensor]:
            return (run.attribute(inputs[0], target),)

        with preserved_generators(self.device):
            seed_generators(seed_of("sensitivity", self.protocol.seed, item.digest), self.device)
            found = captum_host.metrics.sensitivity_max(
                explain, image, perturb_radius=self.metrics.sensitivity_radius,
                n_perturb_samples=self.metrics.sensitivity_samples, target=label,
            )  # fmt: skip
        return float(found[0])


def _groups(stream: Iterator[Item]) -> Iterator[list[Item]]:
    """Up to `GROUP` images of one shape that go through the methods together."""
    while group := list(islice(stream, GROUP)):
        if len({item.image.shape for item in group}) == 1:
            yield group
        else:
            yield from ([item] for item in group)


def _options(name: str, protocol: Protocol) -> dict[str, Any]:
    """Options of a method that the protocol decides."""
    sampled = name == "iaside" and protocol.estimator == "permutation"
    return {"n_samples": 2 * protocol.n_permutations} if sampled else {}


def check_methods(names: Iterable[str]) -> list[str]:
    """Short names of methods, each once, I-ASIDE first whether it is named or not.

    Raises:
        InputError: For an unknown name.
    """
    found = [find_method(name.strip()).name for name in names if name.strip()]
    return list(dict.fromkeys(["iaside", *found]))


def check_protocol(protocol: Protocol) -> None:
    """Refuse choices that Captum's methods do not know.

    Raises:
        InputError: For an absence, a range handling or a temperature that is not the default.
    """
    for name, value in (("absence", "zero"), ("range_handling", "none"), ("temperature", 1.0)):
        if getattr(protocol, name) != value:
            raise InputError(
                f"a comparison with Captum's methods needs {name}={value}, which they share, got "
                f"{getattr(protocol, name)!r}"
            )


def _band_method(name: str, rows: Array) -> BandMethod:
    """Rows of attributions and `COSTS` as one method's part of the report."""
    method = find_method(name)
    m = rows.shape[1] - len(COSTS)
    return BandMethod(
        name=name, title=method.title, complete=method.complete, signed=method.signed,
        per_image=rows[:, :m], **dict(zip(COSTS, rows[:, m:].T, strict=True)),
    )  # fmt: skip
