"""A network beside the same one quantised, under corruptions and other readings of the files.

    python tests/bench/bench_quantised.py kit:NAME --data DIR --out FILE.json [--bits 8,4]
        [--n-images N] [--n-systematic N] [--cache DIR]

Post-training static quantisation by PyTorch: weights of so many bits, ranges by channel;
activations of 8 bits, ranges by tensor and from clean images that are not measured. Products of
the integers are computed in floats (PyTorch's "reference" form of a quantised network), so that no
number depends on the kernels of a processor, some of which leave activations 7 bits.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.classifier import Classifier
from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS
from iaside_plugins.decomposition.contributions import Condition, Contributions
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.measured import family_of
from iaside_plugins.stats.intervals import Estimate
from iaside_plugins.storage.files import write_json
from iaside_plugins.workflows.explain import explain_plan, systematic_pairs
from iaside_plugins.workflows.source import DataSource, find_images, open_model, shaped_images

SEVERITY = 3
N_CALIBRATION = 100
SAME = 1e-4  # of the greatest logit: how far the network may differ once its layers are plain ones


# ---- quantised -------------------------------------------------------------------------------
def plain(net: nn.Module) -> nn.Module:
    """Return a copy whose layers are those of `torch.nn`, which can be quantised and fused.

    Convolutions of a library's own class are taken for such as pad on the right and at the bottom
    ("same" of Keras and TensorFlow, of even sides), its batch norms for such as hold an activation.
    """
    net = copy.deepcopy(net)
    for name, part in list(net.named_modules()):
        own = type(part)
        new: nn.Module
        if isinstance(part, nn.Conv2d) and own is not nn.Conv2d:
            options = {"groups": part.groups, "bias": part.bias is not None}
            sizes = (part.in_channels, part.out_channels, part.kernel_size, part.stride)
            conv = nn.Conv2d(*sizes, **options)
            conv.load_state_dict(part.state_dict())
            both = max(part.kernel_size[0] - part.stride[0], 0)
            sides = (both // 2, both - both // 2)
            new = nn.Sequential(nn.ZeroPad2d((*sides, *sides)), conv)
        elif isinstance(part, nn.BatchNorm2d) and own is not nn.BatchNorm2d:
            norm = nn.BatchNorm2d(part.num_features, part.eps)
            norm.load_state_dict(part.state_dict())
            new = nn.Sequential(norm, part.act)
        else:
            continue
        net.set_submodule(name, new)
    return net.eval()


def clipped(net: nn.Module) -> set[str]:
    """Return the names of convolutions, and their batch norms, whose outputs go through a ReLU6.

    But for the first convolution: what holds for its output would be taken to hold for the images.
    """
    traced = torch.fx.symbolic_trace(net)
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    layers = {node: traced.get_submodule(node.target) for node in calls}
    first = next((node for node in calls if isinstance(layers[node], nn.Conv2d)), None)
    found = set()
    for node, layer in layers.items():
        if isinstance(layer, nn.ReLU6):
            chain = [node.args[0]]
            if isinstance(layers.get(chain[0]), nn.BatchNorm2d):
                chain.append(chain[0].args[0])
            if isinstance(layers.get(chain[-1]), nn.Conv2d) and chain[-1] is not first:
                found |= {one.target for one in chain}
    return found


@torch.no_grad()
def quantised(model: Classifier, images: Tensor, bits: int) -> Classifier:
    """Return a classifier with weights of so many bits and activations of 8.

    Args:
        model: A network that `torch.fx` can trace.
        images: (N, C, H, W) clean images in [0, 1], from which the ranges of activations come.
        bits: 2 to 8.

    Raises:
        InputError: If the network with plain layers is another one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is to move to another package
        from torch.ao.quantization import QConfig, QConfigMapping, observer, quantize_fx

        x = (images - model.mean) / model.std
        net = plain(model.net)
        logits = model.net(x)
        off = float((net(x) - logits).abs().max() / logits.abs().max())
        if not off <= SAME:
            raise InputError(f"{model.info.name}: plain layers give other logits, by {off:.1g}")
        weight = observer.PerChannelMinMaxObserver.with_args(
            dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric,
            quant_min=-(2 ** (bits - 1)),
            quant_max=2 ** (bits - 1) - 1,
        )
        activation = observer.HistogramObserver.with_args(dtype=torch.quint8)
        choice = QConfigMapping().set_global(QConfig(activation, weight))
        # A ReLU6 clips to [0, 6], and so does a range of that size, with all its steps inside.
        six = observer.FixedQParamsObserver.with_args(scale=6 / 255, zero_point=0)
        for name in clipped(net):
            choice.set_module_name(name, QConfig(six, weight))
        prepared = quantize_fx.prepare_fx(net, choice, (x[:1],))
        prepared(x)
        found = quantize_fx.convert_to_reference_fx(prepared)
    return Classifier(found, replace(model.info, name=f"{model.info.name} int{bits}"))


def others(source: DataSource, model: Classifier, measured: set[str], n: int) -> Tensor:
    """Return n clean images (N, C, H, W), chosen by the seed, none of those measured."""
    records, space = find_images(replace(source, n_images=None), model)
    left = [one for one in records if one.image_id not in measured]
    chosen = np.random.default_rng(source.seed).permutation(len(left))[:n]
    taken = model.info.preprocessing
    return torch.cat(
        [x for x, *_ in shaped_images(source, taken, [left[k] for k in chosen], space)]
    )


# ---- measured --------------------------------------------------------------------------------
def ends(estimate: Estimate) -> list[float]:
    """Return a number with the ends of its interval."""
    return [float(estimate.value), *estimate.interval.tolist()]


def split_of(game: Contributions, conditions: Any) -> dict[str, Any]:
    """Return the split of a mean over conditions: numbers with intervals, halves of the bands."""
    split = game.over(conditions)
    lower = np.arange(game.bands.shape[2]) < game.bands.shape[2] // 2
    low, high = (game.in_bands(half, conditions) for half in (lower, ~lower))
    named = {name: getattr(split, name) for name in ("clean", "perturbed", "added")}
    named |= {"lower": low, "upper": high}
    bands = zip(split.bands.value, split.bands.interval, strict=True)
    return {
        **{name: ends(one) for name, one in named.items()},
        "bands": [[float(value), *interval.tolist()] for value, interval in bands],
    }


def splits(game: Contributions) -> dict[str, Any]:
    """Return the splits of the mean over all corruptions and over each group of them."""
    groups: dict[str, list[Condition]] = {}
    for one in game.conditions:
        groups.setdefault(CORRUPTION_GROUPS[one.name], []).append(one)
    return {"mean": split_of(game, None)} | {k: split_of(game, v) for k, v in groups.items()}


def compared(models: dict[str, Classifier], pairs: Any, **options: Any) -> dict[str, Any]:
    """Return the splits of every model, and of its difference from the first, paired over images.

    Args:
        models: By name, the float network first.
        pairs: As for `error_decomposition`, read once for each model.
        options: Of `error_decomposition`.
    """
    games = {
        name: error_decomposition(model, pairs, **options).error for name, model in models.items()
    }
    first, *rest = games
    return {
        "n_images": games[first].n_images,
        **{name: splits(game) for name, game in games.items()},
        "difference": {name: splits(games[name] - games[first]) for name in rest},
    }


@torch.no_grad()
def systematic(models: dict[str, Classifier], pairs: Any) -> dict[str, Any]:
    """Return what other readings of the files add to every model's error, and the differences."""
    wrong: dict[str, list[Tensor]] = {name: [] for name in models}
    names: tuple[str, ...] = ()
    for clean, perturbed, labels, _ in pairs:
        names = tuple(one.name for one in perturbed)
        for name, model in models.items():
            seen = [model(x).argmax(dim=1) != labels for x in (clean, *perturbed.values())]
            wrong[name].append(torch.stack(seen))
    conditions = tuple(map(Condition, names))
    games = {}
    for name, parts in wrong.items():
        own, *rest = torch.cat(parts, dim=1).double().numpy()
        read = np.stack(rest)
        games[name] = Contributions(conditions, own, read, (read - own)[:, :, None])
    first, *others_ = games

    def ends_of(game: Contributions) -> dict[str, Any]:
        return {name: ends(getattr(game.over(), name)) for name in ("clean", "added")}

    return {
        "n_images": games[first].n_images,
        "readings": list(names),
        **{name: ends_of(game) for name, game in games.items()},
        "difference": {name: ends_of(games[name] - games[first]) for name in others_},
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure one network and write its JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="kit:NAME")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n-images", type=int, default=100)
    parser.add_argument("--n-systematic", type=int, default=0, help="0: no other readings")
    parser.add_argument("--bits", default="8")
    parser.add_argument("--cache", type=Path, help="folder of corrupted images")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    model = open_model(options.model, device="cpu")
    family = family_of(model.info.name)
    source = DataSource(options.data, n_images=options.n_images)
    generation = GenerationOptions(cache=options.cache)
    pairs = explain_plan(source, model, severities=(SEVERITY,), generation=generation)
    read = None
    if options.n_systematic:
        read = systematic_pairs(replace(source, n_images=options.n_systematic), model)
    taken = [*pairs.records, *([] if read is None else read.records)]
    clean = others(source, model, {one.image_id for one in taken}, N_CALIBRATION)
    bits = list(map(int, options.bits.split(",")))
    models = {"float": model} | {str(k): quantised(model, clean, k) for k in bits}
    found = {
        "name": model.info.name,
        "family": family,
        "data": options.data.name,
        "severity": SEVERITY,
        "n_calibration": len(clean),
        **compared(models, pairs, show_progress=True),
    }
    if read is not None:
        found["systematic"] = systematic(models, read)
    write_json(options.out, found)


if __name__ == "__main__":
    main()
