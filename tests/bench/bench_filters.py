"""Real filters against the repair that the error decomposition predicts, of one network.

    python tests/bench/bench_filters.py MODEL --data DIR --out FILE.json [--n-images N]

Under every corruption at severity 3: the error where the perturbation is left out of the upper half
of the bands, which is the prediction, and the error behind filters that know no bands: a low-pass
on the perturbation alone, and the same low-pass or a median filter on the perturbed image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor

from iaside_plugins.adapters.compat import import_torchvision
from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.files import write_json
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.source import DataSource, open_model

SEVERITY, N_BANDS = 3, 8
HALF_AMPLITUDE = 0.25  # cycles per pixel, half of Nyquist
FILTERED = ("low_pass", "median")  # of whole images


def low_pass(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) behind a Gaussian that halves amplitudes at half of Nyquist.

    A Gaussian of standard deviation s pixels passes ``exp(-2 (pi s f)^2)`` of a frequency f.
    """
    std = float(np.sqrt(np.log(2) / 2) / (np.pi * HALF_AMPLITUDE))
    blur: Any = import_torchvision().transforms.functional.gaussian_blur
    blurred: Tensor = blur(images, kernel_size=7, sigma=std)
    return blurred


def median(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) behind a median filter of 3 x 3 pixels in each channel."""
    return torch.from_numpy(median_filter(images.numpy(), size=(1, 1, 3, 3)))


def versions(clean: Tensor, perturbed: Tensor) -> dict[str, Tensor]:
    """Return what a network sees of perturbed images (N, C, H, W), by name."""
    change = perturbed - clean
    index = SpectralPartition(N_BANDS).index(*clean.shape[2:])
    return {
        "error": perturbed,
        "without_upper": clean + keep_bands(change, index, range(N_BANDS // 2)),
        "low_pass_of_perturbation": clean + low_pass(change),
        "low_pass": low_pass(perturbed),
        "median": median(perturbed),
    }


@torch.no_grad()
def measure(model: Callable[[Tensor], Tensor], batches: Any) -> dict[str, Any]:
    """Return error rates on clean images and on the `versions` of perturbed ones.

    Args:
        model: (N, C, H, W) images -> logits.
        batches: (clean, condition -> perturbed, labels, ids), as of `explain_plan`.
    """
    wrong: dict[tuple[str, str], list[Tensor]] = {}
    for clean, perturbed, labels, _ in batches:
        seen = {("clean", "error"): clean}
        seen |= {("clean", "low_pass"): low_pass(clean), ("clean", "median"): median(clean)}
        for condition, images in perturbed.items():
            made = versions(clean, images)
            seen |= {(condition.name, name): one for name, one in made.items()}
        for key, images in seen.items():
            wrong.setdefault(key, []).append(model(images).argmax(dim=1) != labels)
    found: dict[str, dict[str, float]] = {}
    for (condition, name), parts in wrong.items():
        found.setdefault(condition, {})[name] = float(torch.cat(parts).double().mean())
    n_images = sum(len(part) for part in wrong["clean", "error"])
    return {"n_images": n_images, "clean": found.pop("clean"), "corruptions": found}


def main(arguments: list[str] | None = None) -> None:
    """Measure one network and write its JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="as for iaside explain")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n-images", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    model = open_model(options.model, device="cpu")
    source = DataSource(options.data, n_images=options.n_images)
    found = measure(model, explain_plan(source, model, severities=(SEVERITY,)))
    write_json(options.out, {"name": model.info.name, "severity": SEVERITY, **found})


if __name__ == "__main__":
    main()
