"""study_perturbations: what is paired, what counts, and what Foolbox's own noise must look like."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from foolbox_nets import BandReader, generator, images, small_net
from torch import Tensor

from iaside_plugins import InputError, Protocol
from iaside_plugins.adapters.foolbox_adapter.attacks import (
    CATALOGUE,
    AttackRun,
    MinimalAttack,
    attack_names,
    attack_runs,
)
from iaside_plugins.adapters.foolbox_adapter.models import foolbox
from iaside_plugins.corruptions.frost import FROST_FILES
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.spectra.perturbation import perturbation_spectrum
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.workflows.spectrum import study_perturbations
from iaside_plugins.workflows.spectrum_plan import SpectrumPlan, origin

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()

X, LABELS = images(8), torch.arange(8) % 5
IDS = list("abcdefgh")


class Stream:
    """Batches of three images, some of them unreadable."""

    def __init__(self, x: Tensor, unreadable: str = "") -> None:
        self.x, self.unreadable = x, unreadable

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        for start in range(0, 8, 3):
            at = [k for k in range(start, min(start + 3, 8)) if IDS[k] not in self.unreadable]
            if at:
                yield self.x[at], LABELS[at], [IDS[k] for k in at]


def noisy(name: str | None, severity: int) -> Tensor:
    return X + 0.02 * severity * torch.randn(X.shape, generator=generator(severity)).clamp(-3, 3)


def corruptions(unreadable: str = "", **settings: object) -> CorruptionPlan:
    return CorruptionPlan(
        ("haze",),
        (),
        lambda name, s: None if name is None else Stream(noisy(name, s), unreadable),
        {"source": "here", **settings},
    )


@pytest.mark.parametrize("unreadable", ["", "d", "def", "ah"])
def test_images_are_paired_by_name(unreadable):
    """Also where a whole batch cannot be read in one of the two streams."""
    plan = SpectrumPlan(Stream(X), corruptions(unreadable), (1, 2))
    report = study_perturbations(plan, protocol=Protocol(n_bands=4))
    keep = [k for k, name in enumerate(IDS) if name not in unreadable]
    for condition, severity in zip(report.conditions, (1, 2), strict=True):
        assert list(condition.ids) == [IDS[k] for k in keep]
        expected = perturbation_spectrum(X[keep], noisy("haze", severity)[keep], n_bands=4)
        found = condition.spectrum(report.partition, report.image_size, report.n_channels)
        np.testing.assert_array_equal(found.per_image, expected.per_image)


def test_errors_are_the_models_on_the_corrupted_images():
    net = small_net()
    report = study_perturbations(
        SpectrumPlan(Stream(X), corruptions(), (2,)), net, protocol=Protocol(n_bands=4)
    )
    expected = (net(noisy("haze", 2)).argmax(1) != LABELS).double()
    np.testing.assert_array_equal(report.conditions[0].wrong, expected)
    assert report.importance is not None
    assert report.importance.ids == tuple(IDS)


def test_failed_attacks_and_misclassified_images_do_not_count():
    net = small_net()
    run = AttackRun("pgd", fb.attacks.LinfPGD(steps=5), (0.002, 0.1))
    report = study_perturbations(
        SpectrumPlan(Stream(X), runs=[run]), net, protocol=Protocol(n_bands=4), seed=3
    )
    right = (net(X).argmax(1) == LABELS).numpy()
    assert 0 < right.sum() < 8
    for condition in report.conditions:
        assert not condition.counts[~right].any()
        assert (condition.wrong[~right] == 1).all()
        np.testing.assert_array_equal(condition.wrong[right] == 1, condition.counts[right])
    weak, strong = (condition.counts.sum() for condition in report.conditions)
    assert weak < strong == right.sum()
    frame = report.to_frame()
    assert list(frame["n_correct"]) == [right.sum()] * 2
    assert list(frame["success"]) == [weak / right.sum(), strong / right.sum()]


@pytest.mark.parametrize(
    ("attack", "epsilon"),
    [
        (fb.attacks.L2AdditiveGaussianNoiseAttack(), 1.0),
        (fb.attacks.LinfAdditiveUniformNoiseAttack(), 0.05),
    ],
    ids=["gaussian", "uniform"],
)
def test_foolboxs_white_noise_is_flat(attack, epsilon):
    """A free check of the whole path: noise attacks at a budget have no preferred frequency."""
    x = images(60, 16)
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, clipped, _ = attack(model, x, torch.zeros(60, dtype=torch.int64), epsilons=epsilon)
    found = perturbation_spectrum(x, clipped, n_bands=4)
    low, high = found.density_fit.interval[0]
    assert low - 0.01 < 0 < high + 0.01
    np.testing.assert_allclose(found.density.value / found.density.value.mean(), 1, atol=0.06)


def test_an_attack_lives_where_its_model_reads():
    net = BandReader(2).eval()
    labels = net(X).argmax(1)
    run = AttackRun("fgm", fb.attacks.FGM(), (3.0,))
    batch = [(X, labels, IDS)]
    report = study_perturbations(SpectrumPlan(batch, runs=[run]), net, protocol=Protocol(n_bands=4))
    share = report.spectra[0][1].share.value
    assert share[2] > 0.99
    assert report.importance.shapley_values.argmax() == 2
    match = report.matches().iloc[0]
    assert match["density"] > 0.3


def test_kept_rows_belong_to_their_origin_and_settings(tmp_path):
    plan = SpectrumPlan(Stream(X), corruptions(), (1,))
    options = {"protocol": Protocol(n_bands=4), "resume": tmp_path}
    first = study_perturbations(plan, **options)
    again = study_perturbations(plan, **options)
    np.testing.assert_array_equal(again.conditions[0].energies, first.conditions[0].energies)
    for other, message in (
        (SpectrumPlan(Stream(X), corruptions(jpeg=True), (1,)), "jpeg was None and is now 'True'"),
        (SpectrumPlan(Stream(X), corruptions(), (1,), origin="textures"), "origin was ''"),
    ):
        with pytest.raises(InputError, match=message):
            study_perturbations(other, **options)


def test_kept_rows_belong_to_an_id(tmp_path):
    """Noise is seeded by the name of an image: the same pixels by another name differ."""

    def named(name: str) -> SpectrumPlan:
        noise = torch.rand(1, 3, 16, 16, generator=generator(ord(name))) / 10
        made = CorruptionPlan(
            ("haze",),
            (),
            lambda kind, s: [(X[:1] + noise, LABELS[:1], [name])] if kind else None,
            {"source": "here"},
        )
        return SpectrumPlan([(X[:1], LABELS[:1], [name])], made, (1,))

    options = {"protocol": Protocol(n_bands=4)}
    first = study_perturbations(named("a"), **options, resume=tmp_path)
    resumed = study_perturbations(named("b"), **options, resume=tmp_path)
    expected = study_perturbations(named("b"), **options)
    np.testing.assert_array_equal(resumed.conditions[0].energies, expected.conditions[0].energies)
    assert not np.array_equal(first.conditions[0].energies, expected.conditions[0].energies)


def test_origin_follows_the_files_of_a_folder(tmp_path):
    textures = tmp_path / "textures"
    textures.mkdir()
    for name in FROST_FILES:
        (textures / name).write_bytes(b"1")
    first = origin("frost", textures)
    assert first == origin("generate", textures)
    assert origin("fog", textures) == origin("none", textures) == ""
    os.utime(textures / FROST_FILES[0], ns=(0, 1))
    second = origin("frost", textures)
    (textures / FROST_FILES[1]).write_bytes(b"12")
    assert len({first, second, origin("frost", textures)}) == 3
    tree = origin(str(textures), None)  # a distributed set
    (textures / "another").touch()
    assert origin(str(textures), None) != tree


def test_nothing_to_measure_is_refused():
    with pytest.raises(InputError, match="nothing to measure"):
        study_perturbations(SpectrumPlan(Stream(X)))
    run = AttackRun("pgd", fb.attacks.LinfPGD(steps=5), (0.02,))
    with pytest.raises(InputError, match="attacks need a model"):
        study_perturbations(SpectrumPlan(Stream(X), runs=[run]))


def test_the_catalogue_names_attacks_as_what_they_are():
    assert attack_names("none") == []
    assert attack_names(" FGSM, cw,fgsm") == ["fgsm", "cw"]
    with pytest.raises(InputError, match="no attack is called 'sparsefool'"):
        attack_names("sparsefool")
    there = [name for name in CATALOGUE if name != "apgd_advlib" or find_spec("adv_lib")]
    runs = attack_runs(there, [0.1], [0.5], 7, SpectralPartition(4))
    assert len(runs) == len(there) - 1 + 4
    for run in runs:
        once = getattr(run.attack, "attack", run.attack)  # of one that starts several times
        assert once.steps == (1 if run.name in ("fgsm", "fgm") else 7)
        expected = (
            (None,)
            if isinstance(CATALOGUE.get(run.name), MinimalAttack)
            else ((0.1,) if run.norm == "Linf" else (0.5,))
        )
        assert run.epsilons == expected
    defaults = {run.name: run.attack for run in attack_runs(["deepfool", "ddn", "l0_fmn"])}
    assert defaults["deepfool"].steps == fb.attacks.L2DeepFoolAttack().steps
    assert defaults["ddn"].steps == fb.attacks.DDNAttack().steps
    assert not any(
        "SparseFool" in title for title in (attack.title for attack in CATALOGUE.values())
    )
