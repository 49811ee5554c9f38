"""What the library's public names give, for `snapshot.py`; each group is a function."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from snapshot_tools import ROBUST, STANDARD, digest, images_of, net


def protocols() -> dict[str, dict[str, Any]]:
    """Choices of protocols by name; "reference" stands for `Protocol.reference`."""
    made: dict[str, dict[str, Any]] = {}
    for absence in ("zero", "gaussian", "replacement"):
        for handling in ("none", "clip", "rescale"):
            for norm in ("chebyshev", "euclidean"):
                made[f"{absence} {handling} {norm}"] = {
                    "absence": absence,
                    "range_handling": handling,
                    "band_norm": norm,
                    "n_bands": 8 if handling == "none" else 4,
                }
        for n_bands, pairs in ((8, 1), (8, 8), (12, 4), (16, 3)):
            made[f"permutation {absence} {n_bands} {pairs}"] = {
                "estimator": "permutation",
                "absence": absence,
                "n_bands": n_bands,
                "n_permutations": pairs,
            }
        for n_bands, coalitions in ((8, 64), (12, 128), (16, 256)):
            made[f"regression {absence} {n_bands}"] = {
                "estimator": "regression",
                "absence": absence,
                "n_bands": n_bands,
                "n_coalitions": coalitions,
                "seed": 5,
            }
    made["exact 10"] = {"n_bands": 10}
    made["scores"] = {"beta": 0.5, "temperature": 2.5, "seed": 9}
    made["noise"] = {"absence": "gaussian", "absence_std": 0.2, "black_empty": True, "seed": 4}
    script: dict[str, dict[str, Any]] = {
        "": {},
        "bins": {"absence": "gaussian_bins"},
        "batch": {"absence": "batch_replacement"},
        "shuffled": {"shuffled": True, "image_batch": 4},
        "rings": {"band_norm": "chebyshev"},
        "not black": {"black_empty": False, "absence": "gaussian_bins", "n_bands": 4},
    }
    for name, flags in script.items():
        made[f"reference {name}"] = {"reference": True, **flags}
    return made


def shapley(_then: Any) -> dict[str, Any]:
    """`spectral_importance` by protocol and option, files, partitions, comparisons, mCE."""
    from iaside_plugins import (
        Protocol,
        SpectralImportance,
        SpectralPartition,
        compare,
        mean_corruption_error,
        spectral_importance,
    )
    from iaside_plugins.corruptions import CORRUPTIONS

    model, other, data = net(ROBUST), net(STANDARD), images_of(7)
    found: dict[str, Any] = {}
    for name, flags in protocols().items():
        make: Any = Protocol.reference if flags.pop("reference", False) else Protocol
        found[name] = spectral_importance(model, data, make(**flags)).to_dict()
    four, many = Protocol(n_bands=4), images_of(222)
    ways: dict[str, dict[str, Any]] = {
        "float64": {"precision": "float64", "model": net(ROBUST).double()},
        "bfloat16": {"precision": "bfloat16"},
        "batches of 5": {"batch_size": 5},
        "five images": {"max_images": 5},
        "two processes": {"device": ["cpu", "cpu"]},
        "signed score": {"n_images": 222, "target_error": 0.03},
        "score": {"n_images": 222, "target_error": 0.03, "target": "score"},
        "sign": {"n_images": 222, "target_error": 0.02, "target": "sign"},
        "a net of batch norms": {"model": other, "protocol": Protocol()},
    }
    for name, options in ways.items():
        given: dict[str, Any] = {"model": model, "protocol": four, **options}
        n = given.pop("n_images", 7)
        chosen = tuple(part[:n] for part in many)
        found[name] = spectral_importance(given.pop("model"), chosen, **given).to_dict()
    first, second = (spectral_importance(one, data) for one in (model, other))
    first.save("result.npz")
    loaded = SpectralImportance.load("result.npz")
    found["result"] = {
        "loaded": loaded.to_dict(),
        "repr": repr(loaded),
        "interactions": loaded.interactions(),
        "frame": loaded.to_frame(),
        "classes": loaded.by_class(),
        "edges": loaded.band_edges(),
    }
    compared = compare(first, second)
    found["compare"] = {**compared.to_dict(), "frame": compared.to_frame()}
    for norm in ("chebyshev", "euclidean"):
        for n_bands, height, width in ((4, 32, 32), (8, 33, 40), (8, 224, 224), (16, 128, 97)):
            bands = SpectralPartition(n_bands, norm)
            noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
            found[f"partition {norm} {n_bands} {height} {width}"] = {
                "masks": bands.masks(height, width),
                "index": bands.index(height, width),
                "edges": bands.edges_in_cycles(height, width),
                "split": bands.split(noise),
                "energy": bands.energy(noise),
            }
    errors = {name: [0.03 * k + 0.1 * s for s in range(1, 6)] for k, name in enumerate(CORRUPTIONS)}
    names = ("alexnet_hendrycks_50k", "alexnet_robustbench_5k")
    found["mCE"] = {name: mean_corruption_error(errors, name) for name in names}
    return found


def captum(_then: Any) -> dict[str, Any]:
    """`SpectralShapley` in its forms, every method in band space, and the comparison of methods."""
    from iaside_plugins.adapters.captum_adapter import (
        METHODS,
        SpectralShapley,
        band_attributions,
        compare_attributions,
        heat_map_spectrum,
    )

    model, (images, labels) = net(ROBUST), images_of(4)
    method = SpectralShapley(model)
    rows = torch.arange(32)
    mask = torch.minimum(rows, 32 - rows)[:, None].expand(32, 32).div(6, rounding_mode="floor")
    found: dict[str, Any] = {}
    forms: dict[str, dict[str, Any]] = {
        "exact": {},
        "in eights": {"perturbations_per_eval": 8},
        "all": {"target": None},
        "sampled": {"n_samples": 6},
        "euclidean": {"norm": "euclidean", "n_bands": 5},
        "drawn": {"n_samples": 5, "generator": torch.Generator().manual_seed(2)},
        "grey": {"baselines": 0.5, "n_bands": 4},
        "painted": {"return_input_shape": True},
        "mask": {"feature_mask": mask},
        "baseline": {"baselines": images.flip(0), "n_bands": 4},
    }
    for name, options in forms.items():
        found[name] = method.attribute(images, **{"target": labels, **options})
    exact = method.attribute(images, target=labels)
    found["delta"] = method.compute_convergence_delta(exact, 0, images, labels)
    found["logits"] = SpectralShapley(model, lambda out: out).attribute(images, target=labels)
    for target in ("label", "predicted"):
        of_set = method.attribute_dataset([(images, labels)], n_bands=4, target=target)
        found[f"data set {target}"] = of_set.to_dict()
    for name in METHODS:
        values = band_attributions(name, model, images, labels, n_bands=6, seed=1)
        grey = band_attributions(name, model, images, labels, n_bands=4, baselines=0.5)
        found[f"band_attributions {name}"] = {"zero": values, "grey": grey}
    found["heat map"] = heat_map_spectrum(images - images.mean())
    report = compare_attributions(model, (images, labels), ["ig", "saliency", "kernel_shap"])
    found["report"] = {
        "all": report.to_dict(),
        "frame": report.to_frame(),
        "profiles": report.profiles(),
        "pairs": report.pairs(),
    }
    return found


def foolbox(_then: Any) -> dict[str, Any]:
    """The spectral importance of Foolbox models, masks of bands, attacks, robust accuracies."""
    import foolbox as fb

    from iaside_plugins.adapters import foolbox_adapter as ours

    images, labels = images_of(8)
    model = net(ROBUST)
    fmodel = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    wide = fmodel.transform_bounds((-1, 1))
    choices: dict[str, Any] = {"n_bands": 6, "absence": "gaussian", "range_handling": "clip"}
    found: dict[str, Any] = {
        "plain": ours.SpectralEvaluator(n_bands=6)(fmodel, images, labels).to_dict(),
        "bounds": ours.SpectralEvaluator(**choices)(wide, 2 * images - 1, labels).to_dict(),
        "repr": repr(ours.SpectralEvaluator(**choices)),
        "score": [ours.spectral_score(fmodel, images, labels, signed=s) for s in (False, True)],
        "masked": ours.SpectralMaskModel(fmodel, [0, 2, 3])(images),
        "masked, round": ours.SpectralMaskModel(wide, [1], n_bands=4, norm="euclidean")(images),
    }
    for spec in ours.parse_attacks("fgsm,pgd,fgm,pgd_l2", [2 / 255], [0.5], 7):
        attacked = ours.adversarial(model, images, labels, spec, seed=3, first_index=8)
        found[f"adversarial {spec.name}"] = {"spec": spec.to_dict(), "images": attacked}
    for keep, norm in (("bands", "L2"), ("bounds", "Linf")):
        attack = ours.BandRestrictedPGD([1, 3], norm=norm, keep=keep, steps=8)
        found[f"band attack {keep}"] = attack(fmodel, images, labels, epsilons=[0.05, 0.2])
    attacks = {"pgd": fb.attacks.LinfPGD(steps=8), "ddn": fb.attacks.DDNAttack(steps=12)}
    budgets = {"Linf": [2 / 255, 8 / 255], "L2": [0.3, 0.5]}
    robust = ours.robust_evaluation(fmodel, [(images, labels)], attacks, budgets, seed=1)
    found["robust_evaluation"] = robust.to_dict()
    return found


def corruptions(_then: Any) -> dict[str, Any]:
    """Digests of every corruption, severity and size, with and without the final JPEG save."""
    from iaside_plugins.corruptions import CORRUPTIONS, corrupt

    textures = find_spec("imagecorruptions")  # only looked up, never imported
    home = textures.submodule_search_locations if textures else None
    frost = Path((home or ["."])[0]) / "frost"
    found: dict[str, Any] = {}
    for size in (32, 224):
        ramp = np.add.outer(np.arange(size), 2 * np.arange(size))[..., None] * [1, 2, 3]
        noise = np.random.default_rng(size).integers(0, 96, (size, size, 3))
        image = ((ramp * 160 // (9 * size)) + noise).clip(0, 255).astype(np.uint8)
        for name in CORRUPTIONS:
            for jpeg in (True, False):
                given: dict[str, Any] = {"jpeg": jpeg}
                if name == "frost":
                    given["frost_textures"] = frost
                found[f"{name} {size}{' jpeg' * jpeg}"] = [
                    digest(corrupt(image, name, severity, seed=7 + severity, **given).tobytes())
                    for severity in range(1, 6)
                ]
    return found
