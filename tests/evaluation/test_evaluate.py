"""Entries against plain loops; conditions resumed to the bit; what cannot be paired."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.entry.build import entry_id, mean, proportion
from iaside_plugins.entry.per_image import pack_bits
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.corruption import (
    CorruptionPlan,
    _mean_error,
    with_reference_entry,
)
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan import AttackPlan, EvaluationPlan
from iaside_plugins.inference.gradients import N_TRIED
from iaside_plugins.protocol import Protocol
from iaside_plugins.stats.intervals import wilson
from iaside_plugins.storage.files import write_json
from iaside_plugins.storage.provenance import ids_digest

N, SIDE, CLASSES = 11, 8, 4
NAMES = ("fog", "snow")
SETTINGS = {"source": "generated", "size": SIDE, "constants": "32", "jpeg": False, "seed": 0}
MODEL = {"name": "toy net"}
DATA = {"name": "toys", "n_available": N, "seed": 0, "note": None}


class Net(nn.Module):
    """Linear, with a count of the rows it saw."""

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(3 * SIDE * SIDE, CLASSES, generator=rng) / 3)
        self.rows = 0
        self._stop = None

    def forward(self, x):
        if self._stop is not None and self.rows >= self._stop:
            raise KeyboardInterrupt
        self.rows += len(x)
        return (x - 0.5).flatten(1) @ self.weight


@pytest.fixture
def net():
    return Net().eval()


RNG = torch.Generator().manual_seed(0)
IMAGES = torch.rand(N, 3, SIDE, SIDE, generator=RNG)
LABELS = torch.randint(CLASSES, (N,), generator=RNG)
IDS = [f"image-{k}" for k in range(N)]


def batches(images=IMAGES, labels=LABELS, ids=IDS, size=4):
    return [
        (images[k : k + size], labels[k : k + size], ids[k : k + size])
        for k in range(0, len(images), size)
    ]


def corrupted(name, severity):
    """Images of one cell: noise that depends on the cell alone."""
    rng = torch.Generator().manual_seed(10 * NAMES.index(name) + severity)
    noise = torch.randn(IMAGES.shape, generator=rng)
    return (IMAGES + 0.1 * severity * noise).clamp(0, 1)


def blurred():
    return (IMAGES + IMAGES.roll(1, dims=3)) / 2


def plan(uncorrupted=None, **more):
    def images(name, severity):
        if name is None:
            return None if uncorrupted is None else batches(uncorrupted)
        return batches(corrupted(name, severity))

    missing = ("frost",)
    return CorruptionPlan(NAMES, missing, images, SETTINGS, **more)


def spec(name, epsilons=(0.02, 0.3), norm="Linf"):
    settings = {"name": name, "norm": norm, "steps": 1, "rel_stepsize": 1.0, "random_start": True}
    return SimpleNamespace(name=name, norm=norm, epsilons=epsilons, to_dict=lambda: dict(settings))


def perturb(model, x, y, one, seed, first):
    """Sign noise that depends on the attack and on the batch's place, as random starts do."""
    rng = torch.Generator().manual_seed(seed + first + 100 * len(one.name))
    sign = torch.randn(x.shape, generator=rng).sign()
    return [(x + epsilon * sign).clamp(0, 1) for epsilon in one.epsilons]


def attacks(*specs, images=None):
    return AttackPlan(specs, images or batches(), perturb, seed=3, batch_size=4)


def plan_of(**more):
    return EvaluationPlan(model=MODEL, data=DATA, clean=batches(), spectral=batches(), **more)


def probability(net, x):
    return torch.softmax(net(x).double(), dim=1)[range(len(x)), LABELS[: len(x)]].detach().numpy()


def wrong(net, x):
    return (net(x).argmax(dim=1) != LABELS[: len(x)]).numpy()


def run(net, one, **more):
    entry, _ = evaluate(net, one, Protocol(n_bands=3), **more)
    return entry


def comparable(entry):
    del entry["provenance"]["date"]
    del entry["spectral"]["n_forward"]
    return entry


@pytest.mark.parametrize("through_geometry", [False, True])
def test_corruption_group_by_plain_loops(net, through_geometry):
    base = blurred() if through_geometry else IMAGES
    entry = run(net, plan_of(corruptions=plan(base if through_geometry else None)))
    group = entry["corruption"]
    assert [(c["corruption"], c["severity"]) for c in group["conditions"]] == [
        (name, severity) for name in NAMES for severity in range(1, 6)
    ]
    per_image = []
    for cell in group["conditions"]:
        x = corrupted(cell["corruption"], cell["severity"])
        misses = wrong(net, x)
        assert cell["error"] == {
            "value": misses.sum() / N,
            "interval": list(wilson(misses.sum(), N)),
            "n": N,
            "images": pack_bits(misses),
        }
        change = np.abs(probability(net, x) - probability(net, base))
        # the model runs in float32 in batches of 4 here and of 11 there
        assert cell["probability_change"]["value"] == pytest.approx(change.mean(), abs=1e-6)
        half = 1.959963984540054 * change.std(ddof=1) / np.sqrt(N)
        expected = [change.mean() - half, change.mean() + half]
        assert cell["probability_change"]["interval"] == pytest.approx(expected, abs=1e-6)
        per_image.append(misses)
    total = group["unnormalised_mean_error"]
    errors = np.array(per_image).mean(axis=0)  # of each image, over the ten cells
    half = 1.959963984540054 * errors.std(ddof=1) / np.sqrt(N)
    assert total["value"] == pytest.approx(errors.mean(), abs=1e-12)
    expected = np.clip([errors.mean() - half, errors.mean() + half], 0, 1)
    assert total["interval"] == pytest.approx(expected, abs=1e-12)
    assert (total["n"], total["n_corruptions"], group["n_images"]) == (N, 2, N)
    assert group["uncorrupted_accuracy"]["value"] == 1 - wrong(net, base).mean()
    assert entry["clean_accuracy"]["value"] == 1 - wrong(net, IMAGES).mean()
    assert group["mce"] is None  # not all 15
    assert {key: group[key] for key in SETTINGS} == SETTINGS


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_mean_error_is_not_certain_where_all_images_err_alike(share):
    shares = [share, share] if share in (0, 1) else [0.0, 1.0]
    cells = [{"error": {"value": one}} for one in shares]
    missed = [dict.fromkeys(IDS, one > 0) for one in shares]
    found = _mean_error(cells, missed, IDS, 1)
    assert found["value"] == share
    assert found["interval"] == pytest.approx(wilson(share * N, N))


def test_adversarial_group_by_plain_loops(net):
    specs = (spec("one"), spec("three", (0.3,)), spec("other", (0.3,), "L2"))
    group = run(net, plan_of(attacks=attacks(*specs)))["adversarial"]
    clean = ~wrong(net, IMAGES)
    hits = {}
    for cell in group["attacks"]:
        one = spec(cell["name"], (cell["epsilon"],), cell["norm"])
        x = torch.cat([perturb(net, IMAGES[k : k + 4], None, one, 3, k)[0] for k in range(0, N, 4)])
        robust = clean & ~wrong(net, x)
        hits[cell["name"], cell["epsilon"]] = robust
        assert cell["accuracy"] == proportion(robust)
        change = np.abs(probability(net, x) - probability(net, IMAGES)).mean()
        assert cell["probability_change"]["value"] == pytest.approx(change, abs=1e-6)
    assert len(hits) == 4
    worst = {(c["norm"], c["epsilon"]): c for c in group["worst_case"]}
    assert worst["Linf", 0.02]["accuracy"] == proportion(hits["one", 0.02], by_image=True)
    both = hits["one", 0.02] & hits["one", 0.3] & hits["three", 0.3]
    assert worst["Linf", 0.3]["accuracy"] == proportion(both, by_image=True)
    assert worst["Linf", 0.3]["attacks"] == ["one", "three"]
    assert worst["L2", 0.3]["accuracy"] == proportion(hits["other", 0.3], by_image=True)
    assert both.sum() < min(hits["one", 0.3].sum(), hits["three", 0.3].sum())  # a real AND


def test_what_falls_at_a_budget_falls_at_a_larger_one(net, caplog):
    """An attack that fails at its larger budget is counted with what it found at the smaller."""

    def only_small(model, x, y, one, seed, first):
        return [perturb(model, x, y, one, seed, first)[0], x]

    one = AttackPlan([spec("one", (0.3, 0.5))], batches(), only_small, seed=0, batch_size=4)
    group = run(net, plan_of(attacks=one))["adversarial"]
    small, large = (cell["accuracy"] for cell in group["attacks"])
    assert small["value"] < large["value"]
    assert [case["accuracy"]["value"] for case in group["worst_case"]] == [small["value"]] * 2
    assert "one leaves more images at Linf 0.5 than at Linf 0.3" in caplog.text


def test_an_image_wrong_when_clean_is_not_robust(net):
    """An attack may turn a wrong answer right; such an image does not count."""
    repair = lambda model, x, y, one, seed, first: [  # noqa: E731
        (x + 0.4 * (model.weight[:, y].T.reshape(x.shape)).sign().detach()).clamp(0, 1)
        for _ in one.epsilons
    ]
    one = AttackPlan([spec("repair", (0.4,))], batches(), repair, seed=0, batch_size=4)
    entry = run(net, plan_of(attacks=one))
    assert entry["clean_accuracy"]["value"] < 1
    cell = entry["adversarial"]["attacks"][0]
    assert cell["accuracy"]["value"] == entry["clean_accuracy"]["value"]


def test_identity_and_counts(net):
    entry = run(net, plan_of())
    assert entry["entry_id"] == f"toys--toy-net--{Protocol(n_bands=3).protocol_id}"
    assert entry["corruption"] is entry["adversarial"] is None
    assert entry["data"]["n_images"] == N
    assert entry["data"]["image_ids_sha256"] == ids_digest(IDS)
    assert entry["spectral"]["image_ids_sha256"] == ids_digest(IDS)
    assert entry["schema_version"] == 1
    assert entry["submission"]["status"] == "self-reported"


def test_a_selection_leaves_the_plain_name_free(net):
    entry = run(net, replace(plan_of(), data={**DATA, "n_available": N + 1}))
    assert entry["entry_id"] == f"toys--toy-net--{Protocol(n_bands=3).protocol_id}--n{N}"


@pytest.mark.parametrize(
    ("dataset", "model", "start"),
    [
        ("imagenet", "resnet50", "imagenet--resnet50--"),
        ("my set", "timm/vit base.in1k", "my-set--timm-vit-base.in1k--"),
        ("..", "../../x", "--x--"),  # never a way out of the folder
    ],
)
def test_entry_ids_are_safe_in_a_path(dataset, model, start):
    found = entry_id(dataset, model, Protocol())
    assert found == start + Protocol().protocol_id
    assert "/" not in found


def test_proportions_and_means():
    assert proportion([True, False, True, True])["value"] == 0.75
    assert proportion([False] * 5)["interval"][0] == 0
    assert proportion([False] * 5)["interval"][1] > 0.4  # Wilson: never an empty interval
    assert mean([0.25])["value"] == 0.25
    assert np.isnan(mean([0.25])["interval"]).all()


def test_corruptions_read_together_are_those_read_one_after_another(net, tmp_path):
    apart, together = plan_of(corruptions=plan()), plan_of(corruptions=plan(together=in_turn))
    first = comparable(run(net, apart, resume=tmp_path))
    assert comparable(run(net, together)) == first
    net.rows = 0
    assert comparable(run(net, together, resume=tmp_path)) == first  # and their rows are the same
    assert net.rows == 0


def test_resumed_run_computes_nothing_and_equals_to_the_bit(net, tmp_path):
    one = plan_of(corruptions=plan(blurred()), attacks=attacks(spec("one"), spec("three")))
    first = comparable(run(net, one, resume=tmp_path))
    net.rows = 0
    assert comparable(run(net, one, resume=tmp_path)) == first
    assert net.rows == N_TRIED  # a gradient, before anything else
    assert comparable(run(net, one)) == first  # and without a folder


def in_turn(streams):
    """The first batches of all streams, then the second ones, as a group of streams reads them."""
    for batches_of_all in zip(*streams, strict=True):
        yield from enumerate(batches_of_all)


@pytest.mark.parametrize("together", [None, in_turn])
@pytest.mark.parametrize("stop", [0, 5, 40, 130, 180])
def test_stopped_run_goes_on(net, tmp_path, stop, together):
    """11 clean, 110 corrupted, 44 attacked, then 78 rows of coalitions."""
    one = plan_of(corruptions=plan(together=together), attacks=attacks(spec("one"), spec("three")))
    whole = comparable(run(net, one))
    n_rows, net.rows, net._stop = net.rows, 0, stop
    with pytest.raises(KeyboardInterrupt):
        run(net, one, resume=tmp_path)
    done, net.rows, net._stop = net.rows, 0, None
    assert comparable(run(net, one, resume=tmp_path)) == whole
    # twice: the batch under way (4 rows, or 8 of an attack's two budgets, or a batch of
    # coalitions) and the black image
    assert n_rows <= done + net.rows <= n_rows + 64 + 1
    assert net.rows <= n_rows - stop + 64 + 1


def test_same_picture_twice_is_attacked_as_in_the_first_run(net, tmp_path):
    """Random starts depend on the batch: the copies' outcomes differ, also when resumed."""
    twice = IMAGES.clone()
    twice[9] = IMAGES[0]
    labels = LABELS.clone()
    labels[9] = LABELS[0]
    clean = batches(twice, labels)
    one = EvaluationPlan(
        model=MODEL,
        data=DATA,
        clean=clean,
        spectral=clean,
        attacks=attacks(spec("one"), images=clean),
    )
    first = comparable(run(net, one, resume=tmp_path))
    assert comparable(run(net, one, resume=tmp_path)) == first


def test_kept_attacks_are_not_used_at_another_place(net, tmp_path):
    """The second four of eleven images, alone, are the first batch: other random starts."""
    part = slice(4, 8)
    few = batches(IMAGES[part], LABELS[part], IDS[part])
    small = plan_of(attacks=attacks(spec("one"), images=few))
    run(net, plan_of(attacks=attacks(spec("one"))), resume=tmp_path)
    assert comparable(run(net, small, resume=tmp_path)) == comparable(run(net, small))


def test_budgets_that_print_alike_are_kept_apart(net):
    """8/255 and 0.03137 agree to four digits."""
    close = (8 / 255, 0.03137)

    def by_budget(model, x, y, one, seed, first):
        return [x if epsilon == close[0] else 1 - x for epsilon in one.epsilons]

    one = AttackPlan([spec("one", close)], batches(), by_budget, seed=0, batch_size=4)
    cells = run(net, plan_of(attacks=one))["adversarial"]["attacks"]
    assert cells[0]["probability_change"]["value"] == 0
    assert cells[1]["probability_change"]["value"] > 0


def test_image_unreadable_when_clean_only(net):
    """A distributed corruption may hold an image whose clean file is damaged: it is left out."""
    clean = batches(IMAGES[1:], LABELS[1:], IDS[1:])
    one = EvaluationPlan(model=MODEL, data=DATA, clean=clean, spectral=clean, corruptions=plan())
    group = run(net, one)["corruption"]
    assert group["n_images"] == N - 1
    for cell in group["conditions"]:
        x = corrupted(cell["corruption"], cell["severity"])
        assert cell["error"]["n"] == cell["probability_change"]["n"] == N - 1
        assert cell["error"]["value"] == wrong(net, x)[1:].mean()


def test_reference_and_published(net):
    errors = {name: [0.5] * 5 for name in NAMES}
    entry = run(net, plan_of(corruptions=plan(reference=errors, reference_name="other")))
    assert entry["corruption"]["mce"] is None  # frost is missing


def test_a_reference_chooses_among_as_many_classes(net, tmp_path):
    """Errors among 200 classes are no errors among 1000."""
    file = tmp_path / "reference.json"
    write_json(file, run(net, plan_of(corruptions=plan())))
    for known in (None, CLASSES):
        assert with_reference_entry(plan(), file, IDS, known).reference_name == "toy net"
    with pytest.raises(InputError, match=r"chooses among 4 classes, here they are 3: .*restrict"):
        with_reference_entry(plan(), file, IDS, 3)


def test_nan_logits_are_refused_by_name(net):
    bad = IMAGES.clone()

    class Broken(Net):
        def forward(self, x):
            logits = super().forward(x)
            hit = (x == bad[5]).flatten(1).all(dim=1)
            return torch.where(hit[:, None], torch.nan, logits)

    with pytest.raises(InputError, match="image-5"):
        run(Broken().eval(), plan_of())


def test_no_images(net):
    with pytest.raises(InputError, match="no images"):
        run(net, EvaluationPlan(model=MODEL, data=DATA, clean=[], spectral=batches()))


def test_labels_beyond_the_outputs(net):
    clean = batches(labels=LABELS + 2)
    with pytest.raises(InputError, match=r"the model has 4 outputs"):
        run(net, EvaluationPlan(model=MODEL, data=DATA, clean=clean, spectral=clean))


class Short(list):
    """Batches of a stream that leaves out the first image, unreadable, of those it names."""

    def __init__(self, images):
        super().__init__([(x[1:], y[1:], ids[1:]) for x, y, ids in batches(images)[:1]])
        self += batches(images)[1:]
        self.records = range(len(images))


@pytest.mark.parametrize("short", [False, True])
def test_an_mce_is_of_the_very_same_images(net, short, caplog):
    """Where an image of a cell was unreadable, the reference's error is of another set."""
    names = tuple(CORRUPTIONS)

    def images(name, severity):
        if name is None:
            return None
        noisy = (IMAGES + 0.1 * severity * (1 + names.index(name) % 3)).clamp(0, 1)
        return Short(noisy) if short and (name, severity) == ("fog", 2) else batches(noisy)

    errors = dict.fromkeys(names, (0.5,) * 5)
    whole = CorruptionPlan(names, (), images, SETTINGS, reference=errors, reference_name="other")
    group = run(net, plan_of(corruptions=whole))["corruption"]
    assert (group["mce"] is None) == short
    assert ("images of fog 2 were unreadable" in caplog.text) == short


class Rounded(Net):
    def forward(self, x):
        return super().forward((x * 255).round() / 255)


def test_what_attacks_saw_and_missed_is_in_the_entry(caplog):
    single = SimpleNamespace(**vars(spec("single", (0.3,))))
    single.to_dict = lambda: {**spec("single").to_dict(), "steps": None, "rel_stepsize": None}
    weak = spec("weak", (0.3,))

    def by_name(model, x, y, one, seed, first):
        return [x] if one is weak else perturb(model, x, y, one, seed, first)

    plan = AttackPlan([single, weak], batches(), by_name, seed=3, batch_size=4)
    net = Rounded().eval()
    entry = run(net, plan_of(attacks=plan))
    seen, clean = entry["adversarial"]["masking"], ~wrong(net, IMAGES)
    left = entry["adversarial"]["attacks"][0]["accuracy"]["value"]
    assert (seen["n_images"], seen["n_zero"], seen["n_varying"]) == (clean.sum(), clean.sum(), 0)
    assert seen["weaker"] == [
        {
            "attack": "weak",
            "single": "single",
            "norm": "Linf",
            "epsilon": 0.3,
            "n_missed": clean.sum() - round(left * N),
        }
    ]
    assert "weak at Linf 0.3 does worse than the single step of single" in caplog.text
    assert caplog.text.count(f"the gradient is zero on {clean.sum()} of {clean.sum()}") == 1


def test_a_missing_gradient_is_known_before_the_work(net):
    net.forward = lambda x: Net.forward(net, x).detach()
    with pytest.raises(InputError, match="the model gives none"):
        run(net, plan_of(attacks=attacks(spec("one"))))
    assert net.rows == N_TRIED


class Scaled(Net):
    def forward(self, x):
        return super().forward(x) * 1e4


def ascend(model, x, y, one, seed, first):
    """Two steps along the sign of the gradient, as PGD's."""
    found = []
    for epsilon in one.epsilons:
        moved = x.clone()
        for _ in range(2):
            probe = moved.clone().requires_grad_()
            loss = nn.functional.cross_entropy(model(probe), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, probe)
            moved = (moved + epsilon / 2 * gradient.sign()).clamp(0, 1)
        found.append(moved)
    return found


@pytest.mark.parametrize("asked", [False, True])
def test_robustness_that_a_temperature_takes_away(net, tmp_path, caplog, asked):
    def group(model):
        plan = AttackPlan(
            [spec("pgd", (0.02, 0.2))], batches(), ascend, seed=3, batch_size=4, temperatures=asked
        )
        return run(model, plan_of(attacks=plan), resume=tmp_path / type(model).__name__)[
            "adversarial"
        ]

    sound, scaled = group(net), group(Scaled().eval())
    assert ("temperature" in sound["masking"]) == asked
    check = scaled["masking"]["temperature"]  # its gradients are zero
    for k, case in enumerate(check["cases"]):
        left = sound["attacks"][k]["accuracy"]["value"]  # the same net, at another scale
        assert case["n_robust"] == round(scaled["attacks"][k]["accuracy"]["value"] * N)
        assert case["n_left"] <= round(left * N)
        if asked:
            own = sound["masking"]["temperature"]["cases"][k]
            assert own["n_left"] <= own["n_robust"] == round(left * N)
    assert check["cases"][1]["n_left"] < check["cases"][1]["n_robust"]
    assert "once the logits it sees are divided by a temperature" in caplog.text
