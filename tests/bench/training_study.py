"""Train the nets of the study of label noise and training time, and record them.

``python tests/bench/training_study.py FOLDER`` writes a file a net, and skips those that are there;
`leaderboard/training/CRITERION.md` says what is run and why. With the kit (IASIDE_KIT) one net is
tried on its CIFAR-10 images. `leaderboard/studies/training.py` takes the files.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from iaside_plugins import Protocol
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.storage.files import jsonable, rounded, write_json
from iaside_plugins.training import SpectralHistory
from iaside_plugins.workflows.digits import BATCH, SIDE, blur, load_digits, network

N_TRAIN, N_RECORDED, N_CLASSES = 700, 50, 10
RATE = 2e-3
N_TRIED = 72
STEPS = (3, 6, 11, 22, 33, 55, 88, 132, 220, 330, 440, 550)  # 11 an epoch
SHARES, SEEDS = (0.0, 0.2, 0.4, 0.6), range(5)
NETS = [("repeated", share, seed) for seed in SEEDS for share in SHARES]
NETS += [("bilinear", share, seed) for seed in SEEDS for share in (SHARES[0], SHARES[-1])]
NOISE, BLUR, CONTRAST = 0.3, 2.0, 0.3  # standard deviations, pixels of [0, 1] and of the image


def enlarged(images: Tensor, how: str) -> Tensor:
    """Return the digits as they are, or enlarged from their 8 x 8 pixels again, bilinearly."""
    if how == "repeated":
        return images
    small = images[:, :, :: SIDE // 8, :: SIDE // 8]
    return functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def with_wrong_labels(labels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Return labels of which so many, drawn at random, are drawn from the other classes."""
    wrong = torch.randperm(len(labels), generator=rng)[: round(share * len(labels))]
    found = labels.clone()
    shift = torch.randint(1, N_CLASSES, (len(wrong),), generator=rng)
    found[wrong] = (found[wrong] + shift) % N_CLASSES
    return found


def perturbed(images: Tensor) -> dict[str, Tensor]:
    """Return the images under noise, blur and less contrast."""
    noise = NOISE * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return {
        "noise": (images + noise).clamp(0, 1),
        "blur": blur(images, BLUR).clamp(0, 1),
        "contrast": mean + CONTRAST * (images - mean),
    }


def run(how: str, share: float, seed: int) -> dict[str, Any]:
    """Train one net and return its records."""
    digits = load_digits(N_TRAIN)
    train, test = (enlarged(x, how) for x in (digits.train_images, digits.test_images))
    rng = torch.Generator().manual_seed(seed)
    labels = with_wrong_labels(digits.train_labels, share, rng)
    torch.manual_seed(seed)
    net = network().train()
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    images, targets = test[:N_RECORDED], digits.test_labels[:N_RECORDED]
    pairs = (images, perturbed(images), targets) if how == "repeated" else None
    history = SpectralHistory((images, targets), Protocol(), pairs=pairs)
    records, step = [], 0
    while step < STEPS[-1]:
        for index in torch.split(torch.randperm(N_TRAIN, generator=rng), BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(net(train[index]), labels[index]).backward()
            optimiser.step()
            step += 1
            if step in STEPS:
                history.record(net, step)
                records.append(
                    {
                        "step": step,
                        "test_accuracy": accuracy(net, test, digits.test_labels),
                        "train_accuracy": accuracy(net, train, labels),
                        "true_accuracy": accuracy(net, train, digits.train_labels),
                        "nats": history.importances[step].shapley_values,
                        "signed_score": history.importances[step].signed_score,
                        "split": splits(history.decompositions.get(step)),
                    }
                )
    return {"images": how, "share": share, "seed": seed, "records": records}


def tried(folder: Path) -> dict[str, Any]:
    """Return the accuracies of a net of the same kind, trained on all but 72 of few images."""
    batches = list(ImageFolderData(folder, resize=None, crop=None))
    rng = torch.Generator().manual_seed(0)
    images, labels = (torch.cat([batch[k] for batch in batches]) for k in (0, 1))
    order = torch.randperm(len(images), generator=rng)
    images, labels = images[order], labels[order]
    train, test = slice(0, len(images) - N_TRIED), slice(len(images) - N_TRIED, None)
    torch.manual_seed(0)
    net = network().train()
    net[0] = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)  # of colours
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    for _ in range(STEPS[-1] // 11):
        for index in torch.split(torch.randperm(train.stop, generator=rng), BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(net(images[train][index]), labels[train][index]).backward()
            optimiser.step()
    record = {
        "n_train": train.stop,
        "n_test": N_TRIED,
        "test_accuracy": accuracy(net, images[test], labels[test]),
        "train_accuracy": accuracy(net, images[train], labels[train]),
    }
    return {"images": "cifar10", "share": 0.0, "seed": 0, "records": [record]}


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose label a net gives, in evaluation mode."""
    net.eval()
    with torch.no_grad():
        found = float((net(images).argmax(dim=1) == labels).double().mean())
    net.train()
    return found


def splits(found: ErrorDecomposition | None) -> dict[str, Any]:
    """Return clean error, contributions of the bands and error of each condition."""
    if found is None:
        return {}
    each = {str(one): found.error.over([one]) for one in found.conditions}
    return {
        name: {
            "clean": float(split.clean.value),
            "bands": split.bands.value,
            "perturbed": float(split.perturbed.value),
        }
        for name, split in each.items()
    }


def main(folder: Path) -> None:
    """Run every net that has no file yet."""
    for how, share, seed in NETS:
        path = folder / f"{how}-{round(100 * share)}-{seed}.json"
        if not path.exists():
            start = time.process_time()
            write_json(path, rounded(jsonable(run(how, share, seed)), 6))
            print(f"{path.name}: {time.process_time() - start:.1f} CPU seconds", flush=True)
    if kit := os.environ.get("IASIDE_KIT"):
        write_json(folder / "cifar10.json", rounded(tried(Path(kit) / "cifar10"), 6))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
