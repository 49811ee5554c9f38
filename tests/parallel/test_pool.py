"""Rows made by several workers: the same as one process makes, in any order, whoever dies."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from thread_workers import Shelf

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.importance.run import ImportanceRun
from iaside_plugins.importance.stopping import MIN_IMAGES
from iaside_plugins.parallel.pool import AHEAD, Part
from iaside_plugins.parallel.shards import worker_groups

CPU = torch.device("cpu")
BATCH = 8


def sample(n, seed=0):
    """Batches of one image with names."""
    images, labels = oracles.sample(n, seed=seed)
    return [(images[k : k + 1], labels[k : k + 1], [f"{seed}/{k}"]) for k in range(n)]


def run_all(shelf, models, jobs, resume=None, target=None):
    """Results of (model, data, protocol) jobs by the same workers."""
    runs = {}

    def requests(pool):
        names = {name: pool.put_model(model) for name, model in models.items()}
        for k, (model, data, protocol) in enumerate(jobs):
            run = ImportanceRun(
                models[model],
                data,
                protocol,
                precision="float32",
                resume=None if resume is None else resume / str(k),
                max_images=None,
                target_error=target,
            )
            request = run.request(BATCH, CPU, names[model])
            runs[request] = run
            yield request

    try:
        with shelf.pool as pool:
            for request, group in worker_groups(pool, requests(pool)):
                look = runs[request].add(group)
                request.stopped = look is not None and look.done
    finally:
        for run in runs.values():
            run.store.flush()
    return [run.result(request.n_forward, tuple(request.forwards)) for request, run in runs.items()]


def run_one(shelf, data, protocol, net=None, **options):
    net = net or oracles.TinyNet()
    (found,) = run_all(shelf, {"": net}, [("", data, protocol)], **options)
    return found


def alone(data, protocol, net=None, **options):
    return spectral_importance(
        net or oracles.TinyNet(), data, protocol, batch_size=BATCH, **options
    )


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
    data = sample(10)
    for seed in range(3):
        same(run_one(Shelf(seed=seed), data, protocol), alone(data, protocol))


def test_models_and_conditions_share_workers():
    models = {"a": oracles.TinyNet(), "b": oracles.TinyNet(seed=1)}
    jobs = [(m, sample(n, seed=n), Protocol(3)) for m in models for n in (5, 3)]
    for seed in range(3):
        each = run_all(Shelf(seed=seed), models, jobs)
        for found, (model, data, protocol) in zip(each, jobs, strict=True):
            same(found, alone(data, protocol, models[model]))


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_no_more_is_handed_out_than_workers_can_hold(n_workers):
    shelf, read, taken = Shelf(n_workers), 0, 0

    def parts(name):
        nonlocal read
        for k in range(40):
            read += 1
            assert read <= taken + AHEAD * n_workers + 1  # and the one that is asked for
            yield Part(name, job, k)

    with shelf.pool as pool:
        name, job = pool.put_model(oracles.TinyNet()), pool.put(Doubling())
        for part, result in pool.results(parts(name)):
            taken += 1
            assert result == 2 * part.data
    assert taken == 40


class Doubling:
    """The simplest job."""

    def begin(self, model, device):
        assert isinstance(model, oracles.TinyNet)
        return lambda k: 2 * k if k < 1000 else 1 / 0


def test_parts_after_one_that_is_alone_wait_for_it_and_errors_come_in_their_turn():
    taken = []

    def parts(name):
        yield Part(name, job, 0, alone=True)
        assert taken == [0]
        for k in (1, 2, None, 1000, 3):
            yield Part(name, job, k)

    def failing(pool):
        for _, result in pool.results(parts(name)):
            taken.append(result)

    with Shelf().pool as pool:
        name, job = pool.put_model(oracles.TinyNet()), pool.put(Doubling())
        with pytest.raises(ZeroDivisionError):
            failing(pool)
        assert taken == [0, 2, 4, None]
        again = [r for _, r in pool.results(Part(name, job, k) for k in range(9))]
        assert again == list(range(0, 18, 2))  # what was under way is not in it
        few = itertools.islice(pool.results(Part(name, job, k) for k in itertools.count()), 3)
        assert [result for _, result in few] == [0, 2, 4]
        with pytest.raises(InputError, match=r"images cannot be sent .* top of a module"):
            pool.put(lambda: None)


def test_workers_that_die_lose_nothing(tmp_path):
    data = sample(10)
    whole = alone(data, Protocol(3))
    for seed in range(5):
        shelf = Shelf(seed=seed, fatal={"0/0": 2, "0/4": 1, "0/9": 2})
        same(run_one(shelf, data, Protocol(3), resume=tmp_path / str(seed)), whole)
        assert shelf.deaths == 5
        kept = alone(data, Protocol(3), resume=tmp_path / str(seed) / "0")
        assert kept.n_forward == 0


def test_images_that_kill_every_worker_are_named_and_those_before_are_kept(tmp_path):
    data = sample(10)
    with pytest.raises(InputError, match=r"3 workers died .*on the images 0/4 .*signal 9"):
        run_one(Shelf(fatal={"0/4": 3}), data, Protocol(3), resume=tmp_path)
    shelf = Shelf()
    found, whole = run_one(shelf, data, Protocol(3), resume=tmp_path), alone(data, Protocol(3))
    same(found, whole)
    assert shelf.n_results == 6


@pytest.mark.parametrize(("failed_starts", "fails"), [(2, False), (3, True)])
def test_workers_that_do_not_start(failed_starts, fails):
    data, shelf = sample(3), Shelf(1, failed_starts=failed_starts)
    if fails:
        with pytest.raises(InputError, match="does not start: exit code 1"):
            run_one(shelf, data, Protocol(3))
        return
    same(run_one(shelf, data, Protocol(3)), alone(data, Protocol(3)))


def test_a_bad_image_does_not_cost_what_came_before(tmp_path):
    data = sample(6)
    bad = [*data[:4], (torch.full_like(data[4][0], 7.0), *data[4][1:]), data[5]]
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        run_one(Shelf(), bad, Protocol(3), resume=tmp_path)
    shelf = Shelf()
    run_one(shelf, data[:3], Protocol(3), resume=tmp_path)
    assert shelf.n_results == 0


def test_an_error_of_the_model_is_raised_here():
    data = [(images, labels + 50, names) for images, labels, names in sample(3)]
    with pytest.raises(InputError, match=r"label 5[0-9] is out of range: the model has 3 outputs"):
        run_one(Shelf(), data, Protocol(3))


@pytest.mark.parametrize("seed", range(3))
def test_a_target_is_met_at_the_same_image(seed):
    net, data = oracles.TinyNet(), sample(200)
    wide = alone(data, Protocol(3), target_error=100.0)
    assert wide.n_images == MIN_IMAGES
    target = 0.9 * float(np.diff(wide.signed_score_interval)[0]) / 2
    whole = alone(data, Protocol(3), target_error=target)
    assert MIN_IMAGES < whole.n_images < 200
    jobs = [("", data, Protocol(3)), ("", data[:7], Protocol(3))]
    found, after = run_all(Shelf(seed=seed), {"": net}, jobs, target=target)
    same(found, whole)
    assert after.n_images == 7  # what the first left under way does not get into the second


def test_images_that_come_twice_are_made_once():
    data = sample(4)
    found, whole = run_one(Shelf(1), data + data, Protocol(3)), alone(data + data, Protocol(3))
    same(found, whole)
    assert found.n_forward == whole.n_forward == 4 * 7 + 1


def test_faster_passes_are_chosen_once_for_all():
    shelf = Shelf()
    found = run_one(shelf, sample(8), replace(Protocol(3), forwards="fast"))
    makers = [session._job[1] for session in shelf.sessions if session._job]
    used = {tuple(maker.game.runner.forward.choices().items()) for maker in makers}
    assert len(makers) > 1
    assert len(used) == 1
    assert found.forwards == tuple(dict(next(iter(used))))
