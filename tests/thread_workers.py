"""Workers in threads of the process, which take turns at random and die where they are told to."""

from __future__ import annotations

import pickle
import random
import threading
import time

import torch

from iaside_plugins.parallel.pool import DiedError, Pool
from iaside_plugins.parallel.session import Session

CPU = torch.device("cpu")
LOCK = threading.Lock()  # attacks seed the random numbers of the whole process


class Shelf:
    """Workers in threads of this process, and what is shared with them.

    Args:
        n_workers: How many.
        seed: Of how long each takes.
        fatal: Names of images whose worker dies, and how often.
        failed_starts: Starts that fail before one succeeds.
    """

    def __init__(self, n_workers=3, seed=0, fatal=None, failed_starts=0):
        self.things, self.rng = [], random.Random(seed)
        self.fatal, self.failed_starts = dict(fatal or {}), failed_starts
        self.deaths = self.n_results = self.n_bytes = 0
        self.sessions = []
        self.pool = Pool([InThread(self) for _ in range(n_workers)], CPU, self.share)

    def share(self, data):
        self.things.append(data)
        return len(self.things) - 1


class InThread:
    """A worker of a `Shelf`."""

    def __init__(self, shelf):
        self.shelf = shelf

    def start(self):
        if self.shelf.failed_starts > 0:
            self.shelf.failed_starts -= 1
            raise DiedError("exit code 1")
        self.session = Session(CPU, self.shelf.things.__getitem__)
        self.shelf.sessions.append(self.session)

    def run(self, model, job, data):
        time.sleep(self.shelf.rng.random() / 500)
        for name in _names(pickle.loads(data)):
            if self.shelf.fatal.get(name, 0) > 0:
                self.shelf.fatal[name] -= 1
                self.shelf.deaths += 1
                raise DiedError("killed by signal 9")
        self.shelf.n_results += 1
        self.shelf.n_bytes += len(data)
        with LOCK:
            return self.session.run(model, job, data)

    def stop(self):
        pass


def _names(data):
    """Names of the images of a shard, with their pixels or as records of one stream."""
    images = getattr(data, "images", ())
    if isinstance(images, list):
        return [item.name for item, _ in images]
    return [one.image_id for one in images[1] if hasattr(one, "image_id")] if images else []
