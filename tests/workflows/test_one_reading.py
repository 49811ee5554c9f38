"""An evaluation that reads each file once, against its pieces run one after the other."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
from image_files import make_tree, random_pixels, save

from iaside_plugins.adapters.imagenet import corrupted, stream
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.imagenet.decoding import decode
from iaside_plugins.corruptions.frost import FROST_FILES
from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.streaming import StreamingDecomposition
from iaside_plugins.entry.build import decomposition_group, mean, proportion, spectral_group
from iaside_plugins.evaluation.conditions import Predictor
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan_rows import PlanRows, members
from iaside_plugins.evaluation.work import evaluation_work
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import jsonable
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.workflows.evaluate import evaluation_plan, with_explained
from iaside_plugins.workflows.source import DataSource, open_images, open_model

N, BATCH = 7, 3
# From Python 3.12 on a fork in a process with threads warns, and DataLoader forks.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
PROTOCOLS = {
    "exact": Protocol(n_bands=3),
    "chains": Protocol(n_bands=3, estimator="permutation"),
    "all images at once": Protocol(n_bands=3, absence="replacement"),
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for k in range(N):
        pixels = random_pixels(k, 40, 48) // (1 + k % 3)
        save(root / ("airplane", "frog")[k % 2] / f"{k}.{'png' if k > 1 else 'jpg'}", pixels)
    return root


@pytest.fixture(scope="module")
def generation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frost")
    for k, name in enumerate(FROST_FILES):
        save(folder / name, random_pixels(900 + k, 230, 230))
    return GenerationOptions(frost=folder)


def model_of(name="small_input"):
    return open_model(f"python:tiny_model:{name}", device="cpu")


def planned(photographs, generation, model, workers=0, **options):
    pytest.importorskip("cv2")
    source = DataSource(photographs, batch_size=BATCH, workers=workers, seed=2)
    given = {"n_spectral": 5, "systematic": True, "corruptions": "fog,contrast", **options}
    return evaluation_plan(source, model, generation=generation, **given)


def outcomes(model, images):
    """Rows of a plain loop: ids, probability of the true class, and whether it is predicted."""
    predict, ids, rows = Predictor(model), [], []
    for batch in images:
        rows.append(predict(*batch))
        ids += batch[2]
    rows = np.concatenate(rows)
    return ids, rows[:, 0], rows[:, 1] > 0


@forks
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_entry_is_that_of_the_pieces(photographs, generation, name, workers):
    model, protocol = model_of(), PROTOCOLS[name]
    one = planned(photographs, generation, model, workers)
    entry, importance = evaluate(model, one, protocol, batch_size=16)
    two = planned(photographs, generation, model)
    result = spectral_importance(model, two.spectral, protocol, batch_size=16)
    assert np.array_equal(importance.per_image, result.per_image)
    assert entry["spectral"] == jsonable(spectral_group(result))
    ids, base, right = outcomes(model, two.clean)
    assert len(ids) == N
    assert entry["clean_accuracy"] == jsonable(proportion(right, by_image=True))
    cells = entry["corruption"]["conditions"]
    assert len(cells) == 10
    for cell in cells:
        images = two.corruptions.images(cell["corruption"], cell["severity"])
        _, probability, hits = outcomes(model, images)
        assert cell["error"] == jsonable(proportion(~hits, by_image=True))
        assert cell["probability_change"] == jsonable(mean(np.abs(probability - base)))
    for cell in entry["systematic"]["conditions"]:
        _, probability, hits = outcomes(model, two.systematic.images(cell["condition"]))
        assert cell["error"] == jsonable(proportion(~hits))
        assert cell["probability_change"] == jsonable(mean(np.abs(probability - base)))


def test_a_file_is_decoded_once_and_workers_are_started_once(photographs, generation, monkeypatch):
    counts = {"decoded": 0, "started": 0}
    loader = stream.DataLoader

    def counted(data, *, grey=False):
        counts["decoded"] += 1
        return decode(data, grey=grey)

    def started(*args, **options):
        counts["started"] += 1
        return loader(*args, **options)

    model = model_of("large_input")
    plan = planned(photographs, generation, model, n_spectral=None)
    monkeypatch.setattr(stream, "decode", counted)
    monkeypatch.setattr(stream, "DataLoader", started)
    assert plan.corruptions.images(None, 0) is not None  # uncorrupted images of another crop
    evaluate(model, plan, Protocol(n_bands=2))
    assert counts["started"] == 1
    assert counts["decoded"] == N


def explained(photographs, generation, model, workers=0, **options):
    """A plan with the split of all errors, of 4 images in an order of its own."""
    given = {"corruptions": "fog,contrast", **options}
    plan = planned(photographs, generation, model, workers, n_spectral=2, **given)
    few = DataSource(photographs, n_images=4, batch_size=BATCH, workers=workers, seed=2)
    return with_explained(plan, few, model, generation=generation, **given)


def test_the_split_of_errors_comes_from_the_same_reading(photographs, generation, monkeypatch):
    counts = Counter()
    made = corrupted.corrupt

    def decoded(data, *, grey=False):
        counts["decoded"] += 1
        return decode(data, grey=grey)

    def making(pixels, name, severity, **options):
        counts["made"] += 1
        return made(pixels, name, severity, **options)

    model, protocol = model_of("large_input"), Protocol(n_bands=3)
    plan = explained(photographs, generation, model)
    assert plan.explained.corruptions.images(None, 0) is not None  # clean images of another crop
    work = evaluation_work(plan, protocol)
    assert work["corruptions"]["corrupted"] == 10 * N
    assert work["explain"]["corrupted"] == 0
    assert work["explain"]["coalition"] == 4 * (10 * 5 + 1)
    alone = error_decomposition(model, plan.explained, chains_like(protocol))
    monkeypatch.setattr(stream, "decode", decoded)
    monkeypatch.setattr(corrupted, "corrupt", making)
    entry, _ = evaluate(model, plan, protocol)
    assert counts == {"decoded": N, "made": 10 * N}
    ids = [record.image_id for record in plan.clean.records]
    assert entry["decomposition"] == jsonable(decomposition_group(alone, ids))


@forks
@pytest.mark.parametrize("workers", [0, 2])
def test_the_split_is_that_of_explain_to_the_bit(photographs, generation, workers):
    model, protocol = model_of(), chains_like(Protocol(n_bands=3))
    plan = explained(photographs, generation, model, workers)
    alone = error_decomposition(model, plan.explained, protocol, batch_size=16)
    options = {"batch_size": 16, "precision": "float32", "resume": None, "pool": None}
    taken = StreamingDecomposition(model, plan.explained, protocol, **options)
    with Progress(None, show=False) as bar:
        rows = PlanRows(model, plan, bar, batch_size=16, resume=None, pairs=taken)
        rows.finish(None)
        rows.close()
    found = taken.result()
    assert found.ids == alone.ids
    assert found.ids != tuple(sorted(found.ids))
    assert found.n_forward == alone.n_forward
    for name in ("clean", "perturbed", "bands"):
        for game in ("error", "loss"):
            one, other = (getattr(getattr(each, game), name) for each in (found, alone))
            assert np.array_equal(one, other)


def test_a_split_of_stored_rows_runs_nothing_again(photographs, generation, tmp_path):
    model = model_of()
    first, _ = evaluate(
        model, explained(photographs, generation, model), Protocol(n_bands=3), resume=tmp_path
    )
    again, _ = evaluate(
        model, explained(photographs, generation, model), Protocol(n_bands=3), resume=tmp_path
    )
    assert first["decomposition"].pop("n_forward") == 4 * (10 * 5 + 1)
    assert again["decomposition"].pop("n_forward") == 0
    assert again["decomposition"] == first["decomposition"]


def test_a_resumed_run_is_the_same(photographs, generation, tmp_path):
    model = model_of()
    first, _ = evaluate(
        model, planned(photographs, generation, model), Protocol(n_bands=3), resume=tmp_path
    )
    plan = planned(photographs, generation, model)
    again, result = evaluate(model, plan, Protocol(n_bands=3), resume=tmp_path)
    assert result.n_forward == 0
    for group in ("corruption", "systematic", "clean_accuracy"):
        assert again[group] == first[group]


def test_images_that_do_not_come_among_the_clean_ones_are_read_for_themselves(photographs):
    model = model_of()
    clean = open_images(DataSource(photographs, batch_size=BATCH), model)
    few = open_images(DataSource(photographs, n_images=3), model)
    is_one = members(few, clean)
    assert [is_one(record.image_id) for record in clean.records].count(True) == 3
    assert members(few, open_images(DataSource(photographs), model_of("large_input"))) is None
    assert members(clean, few) is None
    assert members(open_images(DataSource(photographs), model, shuffled=True), clean) is None
    assert members([], []) is None
    same = list(clean)
    assert members(same, same)("any")


def test_accuracy_at_chance_is_said_after_a_hundred_images(tmp_path, caplog):
    tree = make_tree(tmp_path, ("cat", "dog"), n=80, height=16, width=16)
    model = open_model("python:tiny_model:network", device="cpu")
    source = DataSource(tree, batch_size=60)
    plan = evaluation_plan(source, model, corruptions="none")
    with caplog.at_level(logging.WARNING):
        entry, _ = evaluate(model, plan, Protocol(n_bands=2))
    told = [record for record in caplog.records if "chance" in record.getMessage()]
    assert entry["chance"]["above"] is False
    assert len(told) == 1
    assert "of 120 images" in told[0].getMessage()
