"""Which of Captum's methods run on bands under which short names, and what is known of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from iaside_plugins.adapters.captum_adapter import host as captum_host
from iaside_plugins.adapters.captum_adapter.spectral_shapley import SpectralShapley
from iaside_plugins.adapters.models.built_model import unknown_name
from iaside_plugins.errors import InputTypeError


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
        options: Arguments of `attribute`; Captum's own defaults where none is named.
    """

    name: str
    title: str
    captum: str
    gates: bool = False
    complete: bool = False
    signed: bool = True
    random: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("iaside", "I-ASIDE", "", complete=True),
            Method("ig", "Integrated Gradients", "IntegratedGradients", complete=True,
                   options={"n_steps": 64}),
            Method("saliency", "Saliency", "Saliency", signed=False),
            Method("input_x_gradient", "Input X Gradient", "InputXGradient"),
            Method("gradient_shap", "GradientShap", "GradientShap", complete=True, random=True,
                   options={"n_samples": 64}),
            # Complete on logits, not through a log softmax, which it has no rule for.
            Method("deep_lift", "DeepLift", "DeepLift"),
            Method("feature_ablation", "Feature Ablation", "FeatureAblation", gates=True),
            Method("shapley_sampling", "Shapley Value Sampling", "ShapleyValueSampling",
                   gates=True, complete=True, random=True, options={"n_samples": 25}),
            Method("kernel_shap", "Kernel SHAP", "KernelShap", gates=True, complete=True,
                   random=True, options={"n_samples": 200}),
            # A window over single bands would be Feature Ablation again.
            Method("occlusion", "Occlusion (2 bands)", "Occlusion", gates=True,
                   options={"sliding_window_shapes": (2,)}),
        )
    }
)  # fmt: skip


def find_method(name: str) -> Method:
    """A method by its short name, or by the name of its class in Captum, in any case.

    Raises:
        InputError: For an unknown name, with the closest ones.
    """
    for method in METHODS.values():
        if name.lower() in (method.name, method.captum.lower()) and name:
            return method
    raise unknown_name("attribution method", name, METHODS)


def method_of_class(kind: Any) -> Method:
    """A method of Captum's given by its class; known ones keep their options.

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
