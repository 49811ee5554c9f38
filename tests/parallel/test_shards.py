"""Files that workers read themselves: equal to the bit to one process, and no pixels travel."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from image_files import random_pixels, save
from thread_workers import Shelf

from iaside_plugins import InputError, Protocol, error_decomposition, spectral_importance
from iaside_plugins.adapters.foolbox_adapter import AttackSpec
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.models import load_model
from iaside_plugins.importance.run import ImportanceRun
from iaside_plugins.parallel.shards import RowRequest, worker_groups
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.rows import FinishedGroup, image_groups, row_keys
from iaside_plugins.value_table.stream import items
from iaside_plugins.workflows.explain import explain_plan, systematic_pairs
from iaside_plugins.workflows.source import DataSource

CLASSES = ("airplane", "bird", "cat")  # of CIFAR-10
FIELDS = ("per_image", "ends", "labels", "correct", "ids", "n_classes", "image_size")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """130 images of 16 x 16 of three classes."""
    root = tmp_path_factory.mktemp("files")
    for k in range(130):
        save(root / CLASSES[k % 3] / f"{k:03}.png", random_pixels(k, 16, 16))
    return root


@pytest.fixture
def damaged(folder):
    """The same with the second file of a class unreadable meanwhile."""
    file = folder / "airplane" / "003.png"
    content = file.read_bytes()
    file.write_bytes(b"no image")
    yield folder
    file.write_bytes(content)


def files(root, **options):
    return ImageFolderData(root, resize=None, crop=None, labels="rank", batch_size=8, **options)


def by_workers(data, protocol, shelf=None, **options):
    with (shelf or Shelf()).pool as pool:
        return profile(data, protocol, device=pool, **options)


def profile(data, protocol, **options):
    return spectral_importance(oracles.TinyNet(), data, protocol, batch_size=16, **options)


def same(found, whole, fields=FIELDS):
    for name in fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_a_model_is_let_go_of_once_its_rows_are_there(folder):
    """Of two models one after the other; a run that may need more files keeps its own."""
    net, protocol = oracles.TinyNet(), Protocol(2)

    def requests(pool, limits):
        for limit in limits:
            run = ImportanceRun(
                net,
                files(folder),
                protocol,
                precision="float32",
                resume=None,
                max_images=limit,
                target_error=None,
            )
            yield run.request(16, pool.device, pool.put_model(net))

    for limits, kept in (((None, None), False), ((5, 5), False), ((500, 5), True)):
        with Shelf().pool as pool:
            seen = []
            for request, _ in worker_groups(pool, requests(pool, limits)):
                seen += [request] if request not in seen else []
                if len(seen) == 2:
                    assert (seen[0].model is not None) == kept


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(2),
        Protocol(4, estimator="permutation"),
        Protocol.reference(2, image_batch=3, absence="gaussian_bins"),
        Protocol(2, absence="replacement"),  # needs all images: their pixels travel
    ],
    ids=lambda p: p.protocol_id,
)
def test_workers_that_read_give_what_one_process_gives(damaged, protocol, caplog):
    whole_data, data = files(damaged), files(damaged)
    whole = profile(whole_data, protocol)
    same(by_workers(data, protocol), whole)
    assert whole.n_images == 129
    assert data.unreadable == whole_data.unreadable == ["airplane/003.png"]
    assert caplog.text.count("left out the unreadable image airplane/003.png") == 2


def test_a_few_images_of_many_are_as_many_whoever_reads(damaged):
    for n in (5, 17):
        whole = profile(files(damaged), Protocol(2), max_images=n)
        shelf = Shelf()
        same(by_workers(files(damaged), Protocol(2), shelf, max_images=n), whole)
        assert whole.n_images == n
        assert shelf.n_results < 20


def test_workers_that_die_lose_nothing_and_read_again(folder, monkeypatch):
    shelf = Shelf(fatal={"airplane/000.png": 2, "bird/070.png": 1, "cat/128.png": 1})
    monkeypatch.chdir(folder.parent)  # a path that is another one elsewhere
    found = by_workers(files(folder.name), Protocol(2), shelf)
    same(found, profile(files(folder), Protocol(2)))
    assert shelf.deaths == 4


def test_what_travels_is_small_and_does_not_hold_what_is_there(folder, tmp_path):
    shelf = Shelf()
    found = by_workers(files(folder), Protocol(2), shelf, resume=tmp_path)
    assert shelf.n_bytes / 130 < 4 * 3 * 16 * 16 / 3  # of pixels, as they go through the model
    again = by_workers(files(folder), Protocol(2), resume=tmp_path)
    same(again, found)
    assert again.n_forward == 0
    assert by_workers(files(folder), Protocol(2), Shelf(1)).n_forward == found.n_forward - 2


def test_a_target_stops_at_the_same_image(folder):
    whole = profile(files(folder), Protocol(2), target_error=10.0)
    same(by_workers(files(folder), Protocol(2), target_error=10.0), whole)
    assert whole.n_images == 100


def test_a_run_that_has_enough_takes_no_images_that_are_there():
    data = oracles.sample(3)
    request = RowRequest(Protocol(2), 4, "float32", (), RowStore(None, {}), stopped=True)
    (group,) = image_groups(items(data, 2), Protocol(2), 12)
    finished = FinishedGroup.of(group, row_keys(Protocol(2), group))
    assert list(request.take(finished, None)) == []
    request.stopped = False
    assert list(request.take(finished, None)) == [finished]


def test_files_that_do_not_fit_are_errors_as_in_one_process(tmp_path):
    for k in range(40):
        save(tmp_path / "abc"[k % 3] / f"{k:02}.png", random_pixels(k, 16, 16))
    (tmp_path / "a" / "39.png").write_bytes(b"no image")
    for run in (profile, by_workers):
        with pytest.raises(InputError, match=r"1 of 40 images are unreadable.*a/39.png \(the last"):
            run(files(tmp_path), Protocol(2))
    save(tmp_path / "a" / "39.png", random_pixels(0, 17, 16))
    message = r"must have one size; .*png is 16 x 16, a/39.png is 17 x 16 .* give a crop"
    for run in (profile, by_workers):
        with pytest.raises(InputError, match=message):
            run(files(tmp_path), Protocol(2))


# ---- pairs -----------------------------------------------------------------------------------
def pairs(root, **options):
    source = DataSource(root)
    net = load_model("python:tiny_model:network")
    return net, explain_plan(source, net, **options)


def split(net, images, **options):
    return error_decomposition(net, images, Protocol(2, estimator="permutation"), **options)


def same_split(found, whole):
    for game in ("error", "loss"):
        for name in ("clean", "perturbed", "bands", "nested"):
            np.testing.assert_array_equal(
                getattr(getattr(found, game), name), getattr(getattr(whole, game), name)
            )
    same(found, whole, ("labels", "ids", "energy", "n_classes", "image_size"))
    assert found.conditions == whole.conditions


ATTACK = AttackSpec("pgd", "Linf", 2, 0.5, True, (2 / 255,))
PAIRS = [
    {"corruptions": "gaussian_noise,contrast", "severities": (2, 5)},
    {"corruptions": "none", "attacks": [ATTACK]},  # one condition: images share passes
    {"corruptions": "contrast", "severities": (5,), "attacks": [ATTACK]},
]


@pytest.mark.parametrize("options", PAIRS, ids=["corrupted", "attacked", "both"])
def test_workers_corrupt_and_attack_their_own_images(damaged, options):
    pytest.importorskip("foolbox", reason="needs the extra foolbox")
    limits = {"repair": 11, "max_images": 27, "batch_size": 16}
    whole = split(*pairs(damaged, **options), **limits)
    shelf = Shelf()
    with shelf.pool as pool:
        found = split(*pairs(damaged, **options), device=pool, **limits)
    same_split(found, whole)
    assert whole.n_images == 27
    assert np.isfinite(whole.error.nested).all(axis=(0, 2)).sum() == 11
    assert shelf.n_results > 2


def test_workers_read_files_otherwise(folder):
    source, net = (
        DataSource(folder, n_images=9),
        load_model("python:tiny_model:small_input"),
    )
    whole = split(net, systematic_pairs(source, net))
    with Shelf().pool as pool:
        same_split(split(net, systematic_pairs(source, net), device=pool), whole)
