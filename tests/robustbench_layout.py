"""A small ImageNet as RobustBench lays it out, a model that knows some of it, and CIFAR arrays."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from image_files import save
from PIL import Image
from torch import Tensor, nn

from iaside_plugins.adapters.imagenet.labels import known_map
from iaside_plugins.adapters.models.robustbench_zoo import ORDER
from iaside_plugins.entry.robustbench_json import robustbench_ids

N_IMAGES = 6
TREE = {"corruptions": "ImageNet-C", "corruptions_3d": "ImageNet-3DCC"}


class Pooled(nn.Module):
    """Images of any size averaged to 8 x 8, then one linear layer; counts the rows it sees."""

    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(8)
        self.head = nn.Linear(3 * 64, n_classes)
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.head(self.pool(x).flatten(1))


def fitted(
    images: Tensor, labels: Tensor, n_classes: int = 1000, scale: float = 5.0, brittle: float = 0.0
) -> Pooled:
    """The network whose logits of these images are 0, but for the label `scale` / 5 to `scale`.

    `brittle` adds random weights that these very images do not excite, and their neighbours do.
    """
    net = Pooled(n_classes).eval()
    with torch.no_grad():
        x = net.pool(images).flatten(1)
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
        margins = scale * torch.linspace(0.2, 1, len(x), dtype=torch.float64)[:, None]
        target = margins * nn.functional.one_hot(labels, n_classes).double()
        inverse = torch.linalg.pinv(x)
        noise = torch.randn(x.shape[1], n_classes, generator=torch.Generator().manual_seed(2))
        noise = noise.double() - inverse @ (x @ noise.double())
        weights = (inverse @ target + brittle * noise).float()
        net.head.weight.copy_(weights[:-1].T)
        net.head.bias.copy_(weights[-1])
    net.rows = 0
    return net


@dataclass(frozen=True)
class Layout:
    """Where everything is, and what is in it."""

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]


def make_imagenet(root: Path, n: int = N_IMAGES) -> Layout:
    """`root/val` and both corrupted trees with 1000 class folders, the first n listed images.

    RobustBench wants the folders of all classes in every cell. Corruptions share three sets of
    images at 5 severities, by links: 135,000 folders would take longer than the tests.
    """
    names = robustbench_ids()[:n]
    wnids = known_map("imagenet").index
    rng = np.random.default_rng(5)
    pixels = [smooth(rng) for _ in names]
    folders = {root / "val": 0.0}
    for kind in range(3):
        for severity in range(1, 6):
            folders[root / "cells" / str(kind) / str(severity)] = 6.0 * severity * (1 + kind)
    for folder, noise in folders.items():
        folder.mkdir(parents=True)
        for wnid in wnids:
            (folder / wnid).mkdir()
        for name, image in zip(names, pixels, strict=True):
            noisy = image + noise * rng.standard_normal(image.shape)
            if noise:  # about what Resize 256 and CenterCrop 224 leave of the clean image
                noisy = noisy[3:45, 9:51]
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name, quality=95)
    for threat_model, tree in TREE.items():
        (root / tree).mkdir()
        for k, name in enumerate(ORDER[threat_model]):
            kind = k % (3 if threat_model == "corruptions" else 2)  # so that the two differ
            (root / tree / name).symlink_to(root / "cells" / str(kind), target_is_directory=True)
    return Layout(root, names, tuple(wnids[name.split("/")[0]] for name in names))


def smooth(rng: np.random.Generator, height: int = 48, width: int = 60) -> np.ndarray:
    """A random image without fine detail, (height, width, 3) float in 0..255."""
    coarse = Image.fromarray(rng.integers(40, 216, (4, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)


def make_cifar(root: Path, n: int = 12, noisy: tuple[str, ...] = ORDER["corruptions"]) -> Path:
    """The test archive of CIFAR-10 and CIFAR-10-C, both of n images; returns `root`."""
    rng = np.random.default_rng(9)
    images = np.stack([smooth(rng, 32, 32) for _ in range(n)]).astype(np.uint8)
    labels = [k % 10 for k in range(n)]
    rows = images.transpose(0, 3, 1, 2).reshape(n, -1)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    with (folder / "test_batch").open("wb") as file:
        pickle.dump({b"data": rows, b"labels": labels}, file, protocol=2)
    corrupted = root / "CIFAR-10-C"
    corrupted.mkdir()
    np.save(corrupted / "labels.npy", np.tile(labels, 5))
    for k, name in enumerate(noisy):
        parts = [
            images + 6.0 * s * (1 + k % 3) * rng.standard_normal(images.shape) for s in range(1, 6)
        ]
        np.save(corrupted / f"{name}.npy", np.concatenate(parts).clip(0, 255).astype(np.uint8))
    return root


def make_folder(root: Path, classes: tuple[str, ...], n: int = 2, side: int = 32) -> Path:
    """`n` smooth PNG images in every class folder; returns `root`."""
    rng = np.random.default_rng(11)
    for name in classes:
        for k in range(n):
            save(root / name / f"{k}.png", smooth(rng, side, side).astype(np.uint8))
    return root
