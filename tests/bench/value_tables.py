"""Value tables of the kit's classifiers, computed once and kept in a folder: real populations."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from iaside_plugins import Protocol
from iaside_plugins.shapley.coalitions import all_coalitions, members
from iaside_plugins.storage.files import read_npz, write_atomic
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.value_table.stream import Item, items
from iaside_plugins.workflows.source import DataSource, open_images, open_model

KIT = Path(os.environ.get("IASIDE_KIT") or Path("..") / "shared" / "kit")


def images_of(name: str) -> Path:
    """The kit's images that a model of the kit takes: CIFAR-10 (lossless) or ImageNet."""
    return KIT / ("cifar10" if name.startswith("c10_") else "images")


def value_table(
    folder: Path, name: str, n_bands: int = 8, n_images: int | None = None, what: str = "values"
) -> np.ndarray:
    """Every image's value table (n_images, 2**n_bands) under the default protocol.

    Args:
        folder: Where tables are kept; one that is there is read.
        name: Of a model of the kit.
        n_bands: Up to 16: unlike the exact estimator, this does not mind the cost.
        n_images: So many images, seeded; None for all, sorted by class.
        what: "values", log-likelihoods in nats, or "hits", 1 where the answer is right, else 0.
    """
    file = folder / f"{name}-m{n_bands}-n{n_images or 'all'}.npz"
    if file.is_file() and what in (kept := read_npz(file)):
        return kept[what]
    net = open_model(f"kit:{name}", device="cpu")
    data = open_images(DataSource(images_of(name), n_images=n_images), net)
    protocol = Protocol(n_bands, estimator="permutation")  # only its absence and range are used
    game = Game.of(net, protocol, torch.device("cpu"), 128)
    coalitions, values, hits = all_coalitions(n_bands), [], []
    with torch.no_grad(), Progress({"forward": len(data.records)}, show=True) as bar:
        for item in items(data, n_bands):
            labels = torch.tensor([item.label])
            table = game.start(item.image[None], None, labels, coalitions, [item.name])
            values.append(table.wait()[0][0])
            hits.append(table.hits[0].numpy().astype(float))
            bar.update({"forward": 1})
    tables = {"values": np.stack(values), "hits": np.stack(hits)}
    part = folder / f".{file.name}"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(part, **tables)
    write_atomic(file, part.read_bytes())
    part.unlink()
    return tables[what]


class Played:
    """Values of an image that are computed when they are asked for, and kept: ``game[indices]``."""

    def __init__(self, play: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]):
        self.play = play
        self.kept: dict[int, tuple[float, float]] = {}
        self.column = 0

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        flat = np.ravel(indices).tolist()
        new = np.array(sorted(set(flat) - set(self.kept)), dtype=np.int64)
        if len(new):
            self.kept.update(zip(new.tolist(), zip(*self.play(new), strict=True), strict=True))
        found = np.array([self.kept[k][self.column] for k in flat], dtype=float)
        return found.reshape(np.shape(indices))


def played_games(name: str, n_bands: int, n_images: int) -> dict[str, list[Played]]:
    """Games of any number of bands, "values" (nats) and "hits" (0 or 1) of the same passes."""
    net = open_model(f"kit:{name}", device="cpu")
    data = open_images(DataSource(images_of(name), n_images=n_images), net)
    protocol = Protocol(n_bands, estimator="permutation", forwards="fast")
    game = Game.of(net, protocol, torch.device("cpu"), 64)

    def player(item: Item) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        def play(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            ends = np.concatenate([[0], indices, [2**n_bands - 1]])
            labels = torch.tensor([item.label])
            with torch.no_grad():
                table = game.start(
                    item.image[None], None, labels, members(ends, n_bands), [item.name]
                )
                values, hits, _ = table.wait()
            return values[0, 1:-1], hits[0, 1:-1]

        return play

    found: dict[str, list[Played]] = {"values": [], "hits": []}
    for item in items(data, n_bands):
        nats = Played(player(item))
        hits = Played(nats.play)
        hits.kept, hits.column = nats.kept, 1
        found["values"].append(nats)
        found["hits"].append(hits)
    return found
