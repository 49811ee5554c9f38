"""Every door gives the CPU's numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import oracles
import torch
from torch import Tensor, nn

from device_checks.checks import Notes, check
from device_checks.nets import CPU, PROTOCOL, ROUNDING, SmallNet, data, perturbed
from iaside_plugins import Protocol, SpectralPartition, error_decomposition, spectral_importance
from iaside_plugins.evaluation.conditions import Predictor
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan import EvaluationPlan
from iaside_plugins.heatmap.run import fourier_heatmap
from iaside_plugins.inference.output_checks import random_state

HEAT: dict[str, Any] = {"step": 3, "partition": SpectralPartition(4)}


@check()
def importance_exact(device: torch.device, notes: Notes) -> None:
    cpu = spectral_importance(SmallNet(), data(), PROTOCOL)
    for size in (64, 5, "auto"):
        found = spectral_importance(SmallNet().to(device), data(), PROTOCOL, batch_size=size)
        notes.near(f"values, batch {size}", found.values, cpu.values, ROUNDING)
        notes.near(f"hits, batch {size}", found.hits, cpu.hits, 0)
        notes.near(f"signed score, batch {size}", found.signed_score, cpu.signed_score, 1e-3)


@check()
def importance_permutation(device: torch.device, notes: Notes) -> None:
    for absence in ("zero", "gaussian", "replacement"):
        protocol = Protocol(4, estimator="permutation", absence=absence)
        cpu = spectral_importance(SmallNet(), data(), protocol)
        found = spectral_importance(SmallNet().to(device), data(), protocol)
        notes.near(f"per image, absence {absence}", found.per_image, cpu.per_image, 2 * ROUNDING)


@check()
def importance_of_the_script(device: torch.device, notes: Notes) -> None:
    images, labels = oracles.sample(4, (16, 16), n_classes=5)
    cpu = spectral_importance(SmallNet(), (images, labels), Protocol.reference(3))
    found = spectral_importance(SmallNet().to(device), (images, labels), Protocol.reference(3))
    notes.near("values", found.values, cpu.values, ROUNDING)


@check()
def importance_in_double(device: torch.device, notes: Notes) -> None:
    cpu = spectral_importance(SmallNet().double(), data(4), PROTOCOL, precision="float64")
    net = SmallNet().double().to(device)
    found = spectral_importance(net, data(4), PROTOCOL, precision="float64")
    notes.near("values", found.values, cpu.values, 1e-10)


@check()
def decomposition_with_repair(device: torch.device, notes: Notes) -> None:
    images, labels = data()
    pairs = (images, perturbed(images), labels)
    for protocol, repair in ((PROTOCOL, False), (Protocol(4, estimator="permutation"), True)):
        cpu = error_decomposition(SmallNet(), pairs, protocol, repair=repair)
        found = error_decomposition(SmallNet().to(device), pairs, protocol, repair=repair)
        for game in ("error", "loss"):
            frames = (one.to_frame(game).select_dtypes("number") for one in (found, cpu))
            notes.near(f"{game}, {protocol.estimator}", *frames, 2 * ROUNDING)
        everything = (numbers(one.to_dict()) for one in (found, cpu))
        notes.near(f"with what repairs, {protocol.estimator}", *everything, 1e-3)


@check()
def conditions_of_evaluate(device: torch.device, notes: Notes) -> None:
    images, labels = data()
    names = [str(k) for k in range(len(images))]
    both = [Predictor(net, 4)(images, labels, names) for net in (SmallNet().to(device), SmallNet())]
    notes.near("probability and hit of every image", *both, ROUNDING)
    batches = [(images, labels, names)]
    plan = EvaluationPlan(
        {"name": "small"},
        {"name": "noise", "n_available": len(images)},
        clean=batches,
        spectral=batches,
        perturbed=[(images, {("noise", 1): perturbed(images)}, labels)],
    )
    entries = [
        evaluate(net, plan, PROTOCOL, batch_size=size)[0]
        for net, size in ((SmallNet().to(device), "auto"), (SmallNet(), 64))
    ]
    for group in ("clean_accuracy", "spectral", "decomposition"):
        notes.near(group, *(numbers(entry[group]) for entry in entries), 1e-3)


@check()
def heat_map(device: torch.device, notes: Notes) -> None:
    cpu = fourier_heatmap(SmallNet(), data(4), **HEAT)
    for size in (64, 5, "auto"):
        found = fourier_heatmap(SmallNet().to(device), data(4), **HEAT, batch_size=size)
        notes.near(f"wrong, batch {size}", found.wrong, cpu.wrong, 0)


@check(needs=("captum",))
def captum_door(device: torch.device, notes: Notes) -> None:
    from iaside_plugins.adapters.captum_adapter import (
        SpectralShapley,
        band_attributions,
        compare_attributions,
    )

    images, labels = data(4)
    own, there = images.to(device), labels.to(device)
    nets = SmallNet().to(device), SmallNet()

    def shapley(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return SpectralShapley(net).attribute(x, target=y, n_bands=4, perturbations_per_eval=8)

    found = shapley(nets[0], own, there)
    notes.holds("attributions are where the images are", found.device == own.device)
    notes.near("Shapley values", found, shapley(nets[1], images, labels), 2 * ROUNDING)
    for method in ("ig", "saliency"):
        found = band_attributions(method, nets[0], own, there, n_bands=4)
        cpu = band_attributions(method, nets[1], images, labels, n_bands=4)
        notes.near(method, found, cpu, 10 * ROUNDING)
    for found, cpu in zip(
        *(compare_attributions(n, data(4), ("saliency",), protocol=PROTOCOL).methods for n in nets),
        strict=True,
    ):
        notes.near(f"{found.name} of a comparison", found.per_image, cpu.per_image, 10 * ROUNDING)
        both = (np.nan_to_num(one.sensitivity) for one in (found, cpu))
        notes.near(f"{found.name}: sensitivity", *both, 1e-2)


@check(needs=("foolbox",))
def foolbox_door(device: torch.device, notes: Notes) -> None:
    import foolbox

    from iaside_plugins.adapters.foolbox_adapter import SpectralEvaluator
    from iaside_plugins.adapters.foolbox_adapter.attacks import CATALOGUE, adversarial

    images, labels = data(6)
    net, eps = SmallNet().to(device), 0.03
    pgd = replace(CATALOGUE["pgd"], epsilons=(eps,))
    here = SmallNet()
    (attacked,) = adversarial(here, images, labels, pgd, seed=0)
    found = {attacked.device, here.head.weight.device}
    notes.holds("a model on the CPU stays there", found == {CPU})
    state = random_state(device)
    (attacked,) = adversarial(net, images, labels, pgd, seed=0)
    notes.holds("generators are left as they were", random_state(device) == state)
    notes.holds("adversarial images are on the device", attacked.device.type == device.type)
    distance = float((attacked.cpu() - images).abs().max())
    notes.small("distance beyond epsilon", distance - eps, 1e-6)
    with torch.no_grad():
        loss = [
            nn.functional.cross_entropy(net(x.to(device)), labels.to(device)).item()
            for x in (images, attacked)
        ]
    notes.holds("the attack raises the loss", loss[1] > loss[0])
    results = []
    for one, where in ((net, device), (SmallNet(), CPU)):
        fmodel = foolbox.PyTorchModel(one, bounds=(0, 1), device=where)
        x, y = attacked.detach().to(where), labels.to(where)
        results.append(SpectralEvaluator(n_bands=4)(fmodel, x, y).values)
    notes.near("values of attacked images", *results, ROUNDING)


def numbers(values: Any) -> list[float]:
    """All numbers inside JSON values, in their order."""
    if isinstance(values, dict):
        return numbers(list(values.values()))
    if isinstance(values, (list, tuple)):
        return [x for one in values for x in numbers(one)]
    return [float(values)] if isinstance(values, (int, float)) else []
