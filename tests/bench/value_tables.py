"""Value tables of the kit's classifiers, computed once and kept in a folder: real populations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from iaside_plugins import Protocol
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.storage.files import read_npz, write_atomic
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.progress import progress_bar
from iaside_plugins.value_table.stream import items
from iaside_plugins.workflows.source import DataSource, open_images, open_model

KIT = Path(os.environ.get("IASIDE_KIT") or Path("..") / "shared" / "kit")


def images_of(name: str) -> Path:
    """The kit's images that a model of the kit takes: CIFAR-10 (lossless) or ImageNet."""
    return KIT / ("cifar10" if name.startswith("c10_") else "images")


def value_table(
    folder: Path, name: str, n_bands: int = 8, n_images: int | None = None
) -> np.ndarray:
    """Every image's value table (n_images, 2**n_bands) in nats under the default protocol.

    Args:
        folder: Where tables are kept; one that is there is read.
        name: Of a model of the kit.
        n_bands: Up to 16: unlike the exact estimator, this does not mind the cost.
        n_images: So many images, seeded; None for all, sorted by class.
    """
    file = folder / f"{name}-m{n_bands}-n{n_images or 'all'}.npz"
    if file.is_file():
        return read_npz(file)["values"]
    net = open_model(f"kit:{name}", device="cpu")
    data = open_images(DataSource(images_of(name), n_images=n_images), net)
    protocol = Protocol(n_bands, estimator="permutation")  # only its absence and range are used
    game = Game.of(net, protocol, torch.device("cpu"), 128)
    coalitions, rows = all_coalitions(n_bands), []
    with torch.no_grad(), progress_bar({"forward": len(data.records)}, show=True) as bar:
        for item in items(data, n_bands):
            labels = torch.tensor([item.label])
            table = game.start(item.image[None], None, labels, coalitions, [item.name])
            rows.append(table.wait()[0][0])
            bar.update({"forward": 1})
    values = np.stack(rows)
    part = folder / f".{file.name}"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(part, values=values)
    write_atomic(file, part.read_bytes())
    part.unlink()
    return values
