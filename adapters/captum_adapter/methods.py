"""Captum's attribution methods in band space: what each says of every spectral band."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.captum_adapter import host as captum_host
from iaside_plugins.adapters.captum_adapter.inputs import (
    Baselines,
    as_arguments,
    as_baselines,
    as_images,
    as_target,
    check_model,
    check_target,
    repeat,
)
from iaside_plugins.adapters.captum_adapter.spectral_shapley import SpectralShapley
from iaside_plugins.adapters.isolation import seed_generators
from iaside_plugins.adapters.models.classifier import unknown_name
from iaside_plugins.attributions.band_space import BandForward, BandSplit, GateForward
from iaside_plugins.attributions.per_example import Output, class_log_likelihoods
from iaside_plugins.errors import InputError, InputTypeError, first_line
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.output_checks import OutputCheck
from iaside_plugins.inference.running import run_model
from iaside_plugins.integers import as_integer
from iaside_plugins.seeds import preserved_generators, seed_of
from iaside_plugins.storage.provenance import image_digest

# Arguments of `attribute` that are set here, and those that would change what it returns.
GIVEN = {
    "self",
    "inputs",
    "target",
    "baselines",
    "additional_forward_args",
    "feature_mask",
    "n_bands",
    "norm",
    "return_convergence_delta",
    "return_input_shape",
}

# Numbers in the images of one pass on a CPU: 8 images of 224 x 224, 4 where gradients keep every
# layer's output. More cost more memory, and more time an image.
MOST_NUMBERS = 8 * 3 * 224 * 224


def rows_at_once(images: Tensor, batch_size: int, *, gradients: bool = False) -> int:
    """Return the rows of one pass: `batch_size`, on a CPU at most what `MOST_NUMBERS` allows."""
    if images.device.type != "cpu":
        return batch_size
    most = MOST_NUMBERS // (2 if gradients else 1)
    return max(1, min(batch_size, most // images[0].numel()))


def band_attributions(  # noqa: PLR0913  the public signature
    method: str | type,
    model: Any,
    images: Tensor,
    labels: Any,
    *,
    n_bands: int = 8,
    norm: str = "chebyshev",
    feature_mask: Tensor | None = None,
    baselines: Baselines = None,
    additional_forward_args: Any = None,
    value_fn: Output | None = None,
    batch_size: int = 64,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """Attribute a model's output to spectral bands by one of Captum's methods, (N, n_bands).

    Every method explains the same function, the log-likelihood of the label in nats, against the
    same baseline. Gradient methods run on the band images (`BandForward`), their attributions
    summed over each; for Integrated Gradients that is exactly the Parseval projection of the
    averaged gradient (`parseval_shares`). Methods that perturb features run on gates of bands
    (`GateForward`). Saliency gives the size of the gradient in each band: no sign, no unit, no
    baseline. Random methods are seeded by image, so that neither batches nor order matter.

    Args:
        method: One of `METHODS`, the name of its class, or a class of `captum.attr`.
        model: (N, C, H, W) images -> (N, n_classes) logits, in evaluation mode.
        images: (N, C, H, W), on the model's device.
        labels: Classes to explain, (N,), or one for all.
        n_bands: Number of bands.
        norm: "chebyshev" or "euclidean".
        feature_mask: A band map of one's own, see `BandSplit`.
        baselines: What stands in for a missing band: None for zero, a number, or a tensor.
        additional_forward_args: Further arguments of the model.
        value_fn: Outputs to values, instead of the log softmax.
        batch_size: Rows in one forward pass, at most (`rows_at_once`); never changes the result
            beyond rounding.
        seed: Of random methods.
        options: Of the method's `attribute`, for example ``n_steps=200``.

    Returns:
        On the images' device, in their dtype, without gradients.

    Raises:
        InputError: For input that cannot be used, or a model that the method cannot explain.
        InputTypeError: For a class that is not one of Captum's attribution methods.
    """
    run = BandRun(
        method, model, BandSplit(n_bands, norm, feature_mask), value_fn, batch_size, seed, options
    )
    return run.attribute(images, labels, baselines, additional_forward_args)


@dataclass
class BandRun:
    """One method on one model in band space, with a count of the rows it needed.

    Attributes:
        method: As for `band_attributions`.
        model: As for `band_attributions`.
        split: The bands.
        value_fn: Outputs to values, by default the log softmax.
        batch_size: Rows in one forward pass, at most.
        seed: Of random methods.
        options: Of the method's `attribute`.
        rows: Images that went forward so far.
        gradient_rows: Those of them that went backward too.
    """

    method: str | type
    model: Any
    split: BandSplit
    value_fn: Output | None = None
    batch_size: int = 64
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    gradient_rows: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.method, str):
            self._known = find_method(self.method)
            self._class: Any = getattr(captum_host.attr, self._known.captum, SpectralShapley)
        else:
            self._known, self._class = method_of_class(self.method), self.method
        self._judged = OutputCheck(self.model)

        def counted(batch: Tensor, *arguments: Any) -> Any:
            self.rows += len(batch)
            return logits_in(run_model(self.model, batch, *arguments), self.model)

        self._counted = counted  # one of all images: a model is warned of once
        self._takes = set(inspect.signature(self._class.attribute).parameters)
        options = sorted(self._takes - GIVEN)
        if unknown := sorted(set(self.options) - set(options)):
            raise InputError(
                f"{self._known.title} takes no option {unknown[0]!r}; it takes {', '.join(options)}"
            )
        self.batch_size = as_integer("batch_size", self.batch_size, 1)

    def attribute(
        self, images: Tensor, labels: Any, baselines: Baselines = None, arguments: Any = None
    ) -> Tensor:
        """Return attributions (N, n_bands), see `band_attributions`."""
        (whole,) = as_images(images)
        check_model(self.model, (whole,))
        self.split.index(*whole.shape[2:])
        (baseline,) = as_baselines(baselines, (whole,))
        target = as_target(labels, len(whole))
        further = repeat(as_arguments(arguments), 1, len(whole))
        step = 1 if self._random else self._rows(whole)
        out = []
        for start in range(0, len(whole), step):
            some = slice(start, start + step)
            out.append(
                self._some(
                    whole[some],
                    target[some] if isinstance(target, list) else target,
                    None if baseline is None else baseline[some],
                    tuple(
                        one[some] if torch.is_tensor(one) and one.ndim else one for one in further
                    ),
                )
            )
        found = torch.cat(out).to(whole)
        finite = bool(found.isfinite().all())
        if found.shape != (len(whole), self.split.n_bands) or not finite:
            kind = f"of shape {tuple(found.shape)}" if finite else "not finite"
            raise InputError(
                f"{self._known.title} gave attributions {kind}; expected one finite number a band: "
                "give every image a label, and enough samples"
            )
        return found

    def _some(
        self, images: Tensor, target: Any, baseline: Tensor | None, further: tuple[Any, ...]
    ) -> Tensor:
        """Attribute images that go through the method together."""
        with (
            torch.inference_mode(False),  # there are no gradients in it, nor of what is made in it
            preserved_generators(images.device),
            warnings.catch_warnings(),
        ):
            images, baseline, *rest = map(_outside, (images, baseline, *further))
            further = tuple(rest)
            # Captum's own remarks on hooks, one image at a time, and the like: for its authors.
            warnings.simplefilter("ignore")
            seed = self.seed
            if self._random:
                seed = seed_of(self._known.name, self.seed, image_digest(images[0], 0))
                seed_generators(seed, images.device)
            try:
                if not self._known.captum:
                    return self._iaside(images, target, baseline, further, seed)
                if self._known.gates:
                    return self._on_gates(images, target, baseline, further)
                return self._on_bands(images, target, baseline, further)
            except InputError:
                raise
            except (
                AssertionError,
                RuntimeError,
                AttributeError,
                IndexError,
                TypeError,
                ValueError,
                ArithmeticError,
            ) as error:
                reason = first_line(error, type(error).__name__)
                raise InputError(
                    f"{self._known.title} cannot explain this model: {reason}; leave the method "
                    "out, lower batch_size where memory is short, or change the model (DeepLift "
                    "needs a module of its own for every activation, gradient methods a "
                    "differentiable forward pass)"
                ) from error

    @property
    def _random(self) -> bool:
        """Whether random numbers are drawn: then anew for each image."""
        return self._known.random or (not self._known.captum and "n_samples" in self.options)

    def _iaside(
        self,
        images: Tensor,
        target: Any,
        baseline: Tensor | None,
        further: tuple[Any, ...],
        seed: int,
    ) -> Tensor:
        method = SpectralShapley(self._counted, self.value_fn)
        attributions: Tensor = method.attribute(
            images,
            baseline,
            target,
            further,
            self.split.index(*images.shape[2:]),
            **{
                "perturbations_per_eval": self._per_image(images),
                "generator": torch.Generator().manual_seed(seed),
                **self.options,
            },
        )
        return attributions

    def _on_gates(
        self, images: Tensor, target: Any, baseline: Tensor | None, further: tuple[Any, ...]
    ) -> Tensor:
        forward = self.split.gate_forward(self.model, self._checked(target))
        stack = self.split(images if baseline is None else images - baseline)
        gates = torch.ones(stack.shape[:2], dtype=images.dtype, device=images.device)
        shared = [stack] if len(stack) == 1 else stack
        given = {"baselines": 0, "perturbations_per_eval": self._per_image(images)}
        return self._captum(forward, gates, given, target, (shared, baseline, *further))

    def _on_bands(
        self, images: Tensor, target: Any, baseline: Tensor | None, further: tuple[Any, ...]
    ) -> Tensor:
        forward = self.split.band_forward(self.model, self._checked(target))
        stack = self.split(images)
        absent = torch.zeros_like(stack[:1]) if baseline is None else self.split(baseline)
        per_image = self._per_image(images)
        given = {"baselines": absent, "internal_batch_size": per_image * len(images)}
        if not self._known.averaged or "stdevs" in self.options:
            attributions = self._captum(forward, stack, given, target, further)
            return attributions.flatten(2).sum(dim=2)
        # Means over samples that Captum would draw in one pass: of a few at a time they are the
        # same, as the numbers come from one stream.
        n_samples = {**self._known.options, **self.options}["n_samples"]
        total = torch.zeros(stack.shape[:2], dtype=stack.dtype, device=stack.device)
        for start in range(0, max(1, n_samples), per_image):
            some = min(per_image, n_samples - start)
            found = self._captum(forward, stack, given, target, further, n_samples=some)
            total += some / n_samples * found.flatten(2).sum(dim=2)
        return total

    def _per_image(self, images: Tensor) -> int:
        """Return how many rows of each image go through the model together."""
        return max(1, self._rows(images) // len(images))

    def _rows(self, images: Tensor) -> int:
        gradients = bool(self._known.captum) and not self._known.gates
        return rows_at_once(images, self.batch_size, gradients=gradients)

    def _checked(self, target: Any) -> Output:
        """Return a function of outputs to values, which refuses a target that they do not have."""

        def values(output: Tensor) -> Tensor:
            if self.value_fn is None:
                self._judged.see(output)
            found = (self.value_fn or class_log_likelihoods)(output)
            check_target(found, target)
            return found

        return values

    def _captum(
        self,
        forward: BandForward | GateForward,
        inputs: Tensor,
        given: dict[str, Any],
        target: Any,
        further: tuple[Any, ...],
        **part: Any,
    ) -> Tensor:
        """Run Captum's method on a function of bands; leave out arguments that it does not take."""
        method, before = self._class(forward), (forward.rows, forward.gradient_rows)
        if isinstance(forward, BandForward):
            forward.project = not method.multiplies_by_inputs or "stdevs" in self.options
        arguments = {**self._known.options, **given, **self.options, **part}
        arguments["additional_forward_args"] = further
        taken = {name: value for name, value in arguments.items() if name in self._takes}
        if isinstance(target, list):
            target = [one[0] if len(one) == 1 else one for one in target]
        if isinstance(target, tuple) and len(target) == 1:
            target = target[0]
        attributions = method.attribute(inputs, target=target, **taken)
        self.rows += forward.rows - before[0]
        self.gradient_rows += forward.gradient_rows - before[1]
        if isinstance(forward, BandForward) and not method.multiplies_by_inputs:
            # A gradient has no sign that could be summed over a band: its size is what is left.
            attributions = attributions.abs()
        found: Tensor = attributions.detach()
        return found


def _outside(one: Any) -> Any:
    """Return a copy of a tensor that was made in inference mode; anything else as it is."""
    return one.clone() if torch.is_tensor(one) and one.is_inference() else one


@dataclass(frozen=True)
class Method:
    """A method of Captum's, and how it runs on bands.

    Attributes:
        name: Short name, as on the command line.
        title: Name in tables and plots.
        captum: Name of its class in `captum.attr`; "" for I-ASIDE.
        gates: Whether it perturbs features: then it runs on n_bands gates instead of band images.
        complete: Whether its values sum to value(image) - value(baseline), up to its own error.
        signed: Whether its values have a sign and a unit (nats).
        random: Whether it draws random numbers.
        averaged: Whether it is a mean over ``n_samples`` that Captum passes through at once.
        options: Arguments of `attribute`; Captum's own defaults where none is named.
        trial: Those with which it is tried, cheaply.
    """

    name: str
    title: str
    captum: str
    gates: bool = False
    complete: bool = False
    signed: bool = True
    random: bool = False
    averaged: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    trial: Mapping[str, Any] = field(default_factory=dict)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("iaside", "I-ASIDE", "", complete=True, trial={"n_samples": 1}),
            Method(
                "ig",
                "Integrated Gradients",
                "IntegratedGradients",
                complete=True,
                options={"n_steps": 64},
                trial={"n_steps": 1},
            ),
            Method("saliency", "Saliency", "Saliency", signed=False),
            Method("input_x_gradient", "Input X Gradient", "InputXGradient"),
            Method(
                "gradient_shap",
                "GradientShap",
                "GradientShap",
                complete=True,
                random=True,
                averaged=True,
                options={"n_samples": 64},
                trial={"n_samples": 1},
            ),
            # Complete on logits, not through a log softmax, which it has no rule for.
            Method("deep_lift", "DeepLift", "DeepLift"),
            Method("feature_ablation", "Feature Ablation", "FeatureAblation", gates=True),
            Method(
                "shapley_sampling",
                "Shapley Value Sampling",
                "ShapleyValueSampling",
                gates=True,
                complete=True,
                random=True,
                options={"n_samples": 25},
                trial={"n_samples": 1},
            ),
            Method(
                "kernel_shap",
                "Kernel SHAP",
                "KernelShap",
                gates=True,
                complete=True,
                random=True,
                options={"n_samples": 200},
                trial={"n_samples": 16},
            ),
            # A window over single bands would be Feature Ablation again.
            Method(
                "occlusion",
                "Occlusion (2 bands)",
                "Occlusion",
                gates=True,
                options={"sliding_window_shapes": (2,)},
            ),
        )
    }
)


def find_method(name: str) -> Method:
    """Return a method by its short name, or by the name of its class in Captum, in any case.

    Raises:
        InputError: For an unknown name, with the closest ones.
    """
    for method in METHODS.values():
        if name.lower() in (method.name, method.captum.lower()) and name:
            return method
    raise unknown_name("attribution method", name, METHODS)


def method_of_class(kind: Any) -> Method:
    """Return a method of Captum's given by its class; known ones keep their options.

    Raises:
        InputTypeError: For anything but one of Captum's attribution classes.
    """
    if not (isinstance(kind, type) and issubclass(kind, captum_host.attr.Attribution)):
        raise InputTypeError(
            f"expected the name of a method ({', '.join(METHODS)}) or a class of captum.attr, got "
            f"{kind!r}"
        )
    needed = [
        name
        for name, one in inspect.signature(kind).parameters.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    from_forward = needed in (["forward_func"], ["model"])
    if not from_forward or not inspect.isfunction(getattr(kind, "attribute", None)):
        raise InputTypeError(
            f"{kind.__name__} cannot run on bands: expected a method that is made from a forward "
            f"function alone, this one takes {', '.join(needed)}"
        )
    if issubclass(kind, captum_host.attr.FeaturePermutation):
        raise InputTypeError(
            "FeaturePermutation cannot run on bands of one image: it exchanges features between "
            "the examples of a batch; use FeatureAblation"
        )
    if issubclass(kind, SpectralShapley):
        return METHODS["iaside"]
    for method in METHODS.values():
        if getattr(captum_host.attr, method.captum, None) is kind:
            return method
    gates = issubclass(kind, captum_host.attr.PerturbationAttribution)
    return Method(kind.__name__, kind.__name__, kind.__name__, gates=gates, random=True)
