"""Rows made by several workers: the same as one process makes, in any order, whoever dies."""

from __future__ import annotations

import pickle
import random
from collections import deque
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.importance.run import ImportanceRun
from iaside_plugins.importance.stopping import MIN_IMAGES
from iaside_plugins.parallel.scheduler import (
    TASKS_PER_WORKER,
    RowRequest,
    Scheduler,
    scheduled_groups,
)
from iaside_plugins.parallel.tasks import WorkerMessage, WorkerSession

CPU = torch.device("cpu")
BATCH = 8


class InTurn:
    """Workers in this process; which of them is heard of next is drawn.

    Args:
        seed: Of the order.
        fatal: Names of images whose worker dies, and how often.
        failed_starts: Starts that fail before one succeeds.
    """

    def __init__(self, models, seed=0, fatal=None, failed_starts=0):
        self.models, self.rng = models, random.Random(seed)
        self.fatal, self.failed_starts = dict(fatal or {}), failed_starts
        self.inbox: dict[int, deque] = {}
        self.sessions: dict[tuple[int, str], WorkerSession] = {}
        self.most = self.deaths = self.n_results = 0

    def start(self, worker):
        self.inbox[worker] = deque([WorkerMessage()])
        if self.failed_starts > 0:
            self.failed_starts -= 1
            self.inbox[worker] = deque([WorkerMessage(died="exit code 1")])

    def send(self, worker, task):
        self.inbox[worker].append(pickle.loads(pickle.dumps(task)))
        tasks = [x for box in self.inbox.values() for x in box if not isinstance(x, WorkerMessage)]
        self.most = max(self.most, len(tasks))

    def receive(self):
        worker = self.rng.choice([k for k, box in self.inbox.items() if box])
        task = self.inbox[worker].popleft()
        if isinstance(task, WorkerMessage):
            return [(worker, task)]
        for name in task.names:
            if self.fatal.get(name, 0) > 0:
                self.fatal[name] -= 1
                self.deaths += 1
                self.inbox[worker].clear()
                return [(worker, WorkerMessage(died="killed by signal 9"))]
        key = (worker, task.model)
        session = self.sessions.setdefault(key, WorkerSession(self.models[task.model], CPU))
        self.n_results += 1
        try:
            return [(worker, WorkerMessage(result=session.finish(session.start(task))))]
        except InputError as error:
            return [(worker, WorkerMessage(error=error))]


def sample(n, seed=0):
    """Batches of one image with names."""
    images, labels = oracles.sample(n, seed=seed)
    return [(images[k : k + 1], labels[k : k + 1], [f"{seed}/{k}"]) for k in range(n)]


def run_all(workers, jobs, n_workers=3, resume=None, target=None):
    """Results of (model, data, protocol) jobs by the same workers."""
    profiles = {}

    def runs():
        for k, (model, data, protocol) in enumerate(jobs):
            folder = None if resume is None else resume / str(k)
            profile = ImportanceRun(
                workers.models[model],
                data,
                protocol,
                precision="float32",
                resume=folder,
                max_images=None,
                target_error=target,
            )
            run = RowRequest(
                model, protocol, BATCH, "float32", profile.groups(BATCH), profile.store
            )
            profiles[run] = profile
            yield run

    try:
        for run, group, keys in scheduled_groups(Scheduler(workers, n_workers), runs()):
            look = profiles[run].add(group, keys)
            run.stopped = look is not None and look.done
    finally:
        for profile in profiles.values():
            profile.store.flush()
    return [
        profile.result(run.n_forward, tuple(run.choices or ())) for run, profile in profiles.items()
    ]


def alone(model, data, protocol, **options):
    return spectral_importance(model, data, protocol, batch_size=BATCH, **options)


def same(found, whole):
    np.testing.assert_array_equal(found.per_image, whole.per_image)
    np.testing.assert_array_equal(found.ends, whole.ends)
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_array_equal(found.correct, whole.correct)
    assert (found.ids, found.image_size) == (whole.ids, whole.image_size)
    assert found.n_classes == whole.n_classes


PROTOCOLS = [
    Protocol(2),
    Protocol(4),
    Protocol(4, absence="replacement"),
    Protocol(3, absence="gaussian"),
    Protocol(4, estimator="permutation"),
    Protocol.reference(3, image_batch=3),
    Protocol.reference(3, image_batch=3, absence="gaussian_bins"),
    Protocol.reference(3, image_batch=4, shuffled=True),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.protocol_id)
def test_workers_give_what_one_process_gives(protocol):
    net, data = oracles.TinyNet(), sample(10)
    for seed in range(3):
        (found,) = run_all(InTurn({"": net}, seed), [("", data, protocol)])
        same(found, alone(net, data, protocol))


def test_models_and_conditions_share_workers():
    models = {"a": oracles.TinyNet(), "b": oracles.TinyNet(seed=1)}
    jobs = [(m, sample(n, seed=n), Protocol(3)) for m in models for n in (5, 3)]
    for seed in range(3):
        workers = InTurn(models, seed)
        for found, (model, data, protocol) in zip(run_all(workers, jobs), jobs, strict=True):
            same(found, alone(models[model], data, protocol))


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_no_more_is_handed_out_than_workers_can_hold(n_workers):
    workers, net = InTurn({"": oracles.TinyNet()}), oracles.TinyNet()
    read = 0

    def data():
        nonlocal read
        for batch in sample(30):
            read += 1
            # beside what is under way: the group that is next, and those that came back since
            assert read <= workers.n_results + TASKS_PER_WORKER * n_workers + 1
            yield batch

    (found,) = run_all(workers, [("", data(), Protocol(3))], n_workers)
    assert workers.most == TASKS_PER_WORKER * n_workers
    same(found, alone(net, sample(30), Protocol(3)))


def test_workers_that_die_lose_nothing(tmp_path):
    net, data = oracles.TinyNet(), sample(10)
    whole = alone(net, data, Protocol(3))
    for seed in range(5):
        workers = InTurn({"": net}, seed, fatal={"0/0": 2, "0/4": 1, "0/9": 2})
        (found,) = run_all(workers, [("", data, Protocol(3))], resume=tmp_path / str(seed))
        assert workers.deaths == 5
        same(found, whole)
        kept = alone(net, data, Protocol(3), resume=tmp_path / str(seed) / "0")
        assert kept.n_forward == 0


def test_images_that_kill_every_worker_are_named_and_the_rest_is_kept(tmp_path):
    net, data = oracles.TinyNet(), sample(10)
    workers = InTurn({"": net}, fatal={"0/4": 3})
    with pytest.raises(InputError, match=r"3 workers died .*on the images 0/4 .*signal 9"):
        run_all(workers, [("", data, Protocol(3))], resume=tmp_path)
    again = InTurn({"": net})
    (found,) = run_all(again, [("", data, Protocol(3))], resume=tmp_path)
    whole = alone(net, data, Protocol(3))
    same(found, whole)
    assert found.n_forward < whole.n_forward


@pytest.mark.parametrize(("failed_starts", "fails"), [(2, False), (3, True)])
def test_workers_that_do_not_start(failed_starts, fails):
    net, data = oracles.TinyNet(), sample(3)
    workers = InTurn({"": net}, failed_starts=failed_starts)
    if fails:
        with pytest.raises(InputError, match="does not start: exit code 1"):
            run_all(workers, [("", data, Protocol(3))], n_workers=1)
        return
    (found,) = run_all(workers, [("", data, Protocol(3))], n_workers=1)
    same(found, alone(net, data, Protocol(3)))


def test_a_bad_image_does_not_cost_what_is_under_way(tmp_path):
    data = sample(6)
    bad = [*data[:4], (torch.full_like(data[4][0], 7.0), *data[4][1:]), data[5]]
    net = oracles.TinyNet()
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        run_all(InTurn({"": net}), [("", bad, Protocol(3))], resume=tmp_path)
    (found,) = run_all(InTurn({"": net}), [("", data[:4], Protocol(3))], resume=tmp_path)
    assert found.n_forward == 0


def test_an_error_of_the_model_is_raised_here():
    data = [(images, labels + 50, names) for images, labels, names in sample(3)]
    with pytest.raises(InputError, match=r"label 5[0-9] is out of range: the model has 3 outputs"):
        run_all(InTurn({"": oracles.TinyNet()}), [("", data, Protocol(3))])


@pytest.mark.parametrize("seed", range(3))
def test_a_target_is_met_at_the_same_image(seed):
    net, data = oracles.TinyNet(), sample(200)
    wide = alone(net, data, Protocol(3), target_error=100.0)
    assert wide.n_images == MIN_IMAGES
    target = 0.9 * float(np.diff(wide.signed_score_interval)[0]) / 2
    whole = alone(net, data, Protocol(3), target_error=target)
    assert MIN_IMAGES < whole.n_images < 200
    jobs = [("", data, Protocol(3)), ("", data[:7], Protocol(3))]
    found, after = run_all(InTurn({"": net}, seed), jobs, target=target)
    same(found, whole)
    assert after.n_images == 7  # what the first left under way does not get into the second


def test_images_that_come_twice_are_made_once():
    net, data = oracles.TinyNet(), sample(4)
    twice = data + data
    (found,) = run_all(InTurn({"": net}), [("", twice, Protocol(3))], n_workers=1)
    whole = alone(net, twice, Protocol(3))
    same(found, whole)
    assert found.n_forward == whole.n_forward == 4 * 7 + 1


def test_faster_passes_are_chosen_once_for_all():
    net, data = oracles.TinyNet(), sample(8)
    protocol = replace(Protocol(3), forwards="fast")
    workers = InTurn({"": net})
    (found,) = run_all(workers, [("", data, protocol)])
    used = {
        tuple(session._game[1].runner.forward.choices().items())
        for session in workers.sessions.values()
    }
    assert len(workers.sessions) > 1
    assert len(used) == 1
    assert found.forwards == tuple(dict(next(iter(used))))
