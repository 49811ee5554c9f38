"""`evaluate` by workers: every condition and attack of the entry as one process makes it."""

from __future__ import annotations

import pytest
from image_files import random_pixels, save
from thread_workers import Shelf

from iaside_plugins import InputError, Protocol
from iaside_plugins.adapters.foolbox_adapter import AttackSpec
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.models import load_model
from iaside_plugins.evaluation.conditions import ConditionRunner
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.inference import tuning
from iaside_plugins.inference.gradients import gradient_rows
from iaside_plugins.storage.row_store import read_header
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.workflows.evaluate import evaluation_plan, with_explained
from iaside_plugins.workflows.source import DataSource

CLASSES = ("airplane", "bird", "cat")  # of CIFAR-10
PLAIN = Protocol(2)
ATTACKS = [
    AttackSpec("fgsm", "Linf", None, None, False, (2 / 255, 8 / 255)),
    AttackSpec("pgd", "Linf", 2, 0.5, True, (2 / 255,)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """102 images of 16 x 16, of which one is unreadable."""
    root = tmp_path_factory.mktemp("files")
    for k in range(102):
        save(root / CLASSES[k % 3] / f"{k:03}.png", random_pixels(k, 16, 16))
    (root / "airplane" / "006.png").write_bytes(b"no image")
    return root


def entry(root, protocol=PLAIN, **options):
    net = load_model("python:tiny_model:network")
    plan = evaluation_plan(
        DataSource(root, batch_size=16),
        net,
        corruptions="contrast,gaussian_noise",
        attacks=ATTACKS,
        n_spectral=20,
        n_attack=101,
    )
    found, result = evaluate(net, plan, protocol, batch_size=16, **options)
    for group in (found, found["spectral"]):
        for name in ("provenance", "n_forward"):
            group.pop(name, None)
    return found, result.n_forward


def test_workers_make_every_row_of_an_entry(folder, tmp_path):
    pytest.importorskip("foolbox", reason="needs the extra foolbox")
    whole, _ = entry(folder)
    assert whole["data"]["n_unreadable"] == 1
    assert len(whole["corruption"]["conditions"]) == 10
    shelf = Shelf()
    with shelf.pool as pool:
        found, _ = entry(folder, devices=pool, resume=tmp_path)
        assert found == whole
        many, few = shelf.n_results, len(shelf.things)
        again, n_forward = entry(folder, devices=pool, resume=tmp_path)
    assert again == whole
    assert n_forward == 0
    # 7 batches of all conditions, of the gradients and of both attacks; and the importance
    assert many > 28
    assert shelf.n_results - many == many
    assert len(shelf.things) == 2 * few


def test_what_one_process_stored_workers_go_on_with(folder, tmp_path):
    pytest.importorskip("foolbox", reason="needs the extra foolbox")
    whole, _ = entry(folder, resume=tmp_path)
    with Shelf().pool as pool:
        assert entry(folder, devices=pool, resume=tmp_path) == (whole, 0)


def test_workers_make_the_split_of_errors_of_what_they_read(folder, tmp_path):
    net = load_model("python:tiny_model:network")

    def split(devices=None, resume=None):
        given = {"corruptions": "contrast,gaussian_noise"}
        plan = evaluation_plan(DataSource(folder, batch_size=16), net, n_spectral=2, **given)
        plan = with_explained(plan, DataSource(folder, n_images=30), net, **given)
        entry, _ = evaluate(net, plan, PLAIN, batch_size=8, devices=devices, resume=resume)
        return entry["decomposition"], entry["decomposition"].pop("n_forward")

    whole, n_forward = split()
    shelf = Shelf()
    with shelf.pool as pool:
        found, n = split(pool, tmp_path)
        # the importance, and 7 batches of all conditions: nothing is read for the split alone
        assert shelf.n_results == 1 + 7
        again, none = split(pool, tmp_path)
    assert found == again == whole
    assert whole["n_images"] in (29, 30)
    assert n == n_forward
    assert none == 0


def test_workers_answer_every_reading_of_the_files(tmp_path):
    pytest.importorskip("cv2")
    for k in range(10):
        save(tmp_path / CLASSES[k % 3] / f"{k}.png", random_pixels(k, 60, 75))
    net = load_model("python:tiny_model:small_input")

    def group(devices=None):
        source = DataSource(tmp_path, batch_size=4)
        plan = evaluation_plan(source, net, corruptions="none", systematic=True)
        return evaluate(net, plan, PLAIN, devices=devices)[0]["systematic"]

    with Shelf().pool as pool:
        assert group(pool) == group()


def test_images_of_two_sizes_are_an_error_though_no_worker_sees_both(tmp_path):
    for k in range(20):
        save(tmp_path / CLASSES[k % 3] / f"{k:03}.png", random_pixels(k, 16 if k < 10 else 17, 16))
    data = ImageFolderData(tmp_path, resize=None, crop=None, batch_size=10)
    net = load_model("python:tiny_model:network")
    message = r"one size; .*png is 16 x 16, .*png is 17 x 16"
    with Shelf().pool as pool, Progress(None, show=False) as bar:
        data.records.sort(key=lambda record: record.path.stem)
        runner = ConditionRunner(net, None, bar, workers=(pool, pool.put_model(net)))
        with pytest.raises(InputError, match=message):
            runner.rows_of("gradient", data, gradient_rows)


@pytest.mark.usefixtures("without_onnxruntime")
def test_fast_passes_are_those_that_the_first_batch_chose(folder, tmp_path, monkeypatch):
    pytest.importorskip("foolbox", reason="needs the extra foolbox")
    monkeypatch.setattr(tuning, "LEAST_GAIN", 0.0)  # every step that gives the plain numbers
    fast = Protocol(2, forwards="fast")
    whole, _ = entry(folder, fast, resume=tmp_path / "whole")
    assert "channels_last" in read_header(tmp_path / "whole" / "conditions")[1]["forwards"]
    plain, _ = entry(folder)
    assert_near(whole, plain)
    with Shelf().pool as pool:
        found, _ = entry(folder, fast, devices=pool, resume=tmp_path / "workers")
    assert found == whole
    with (
        Progress(None, show=False) as bar,
        pytest.raises(InputError, match="holds another run"),
    ):
        ConditionRunner(load_model("python:tiny_model:network"), tmp_path / "whole", bar)


def assert_near(found, expected):
    """Conditions agree but for the rounding of single precision."""
    for one, other in zip(
        found["corruption"]["conditions"], expected["corruption"]["conditions"], strict=True
    ):
        value = other["probability_change"]["value"]
        assert one["probability_change"]["value"] == pytest.approx(value, abs=1e-5)
