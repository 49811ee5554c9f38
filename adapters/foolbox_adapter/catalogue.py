"""The attacks whose spectra `iaside spectrum` measures, by short name, at budgets or minimal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from iaside_plugins.adapters.foolbox_adapter.attack_runs import AttackRun
from iaside_plugins.adapters.foolbox_adapter.attacks import (
    ATTACKS,
    EPSILONS_L2,
    foolbox_attack,
    parse_attacks,
)
from iaside_plugins.adapters.foolbox_adapter.guards import foolbox
from iaside_plugins.errors import InputError
from iaside_plugins.spectral.partition import SpectralPartition


@dataclass(frozen=True)
class MinimalAttack:
    """An attack that looks for the least perturbation, with the hyper-parameters that we run.

    Attributes:
        title: Name in tables, as what it is.
        kind: Class in foolbox.attacks.
        options: Hyper-parameters that are not Foolbox's defaults, or worth saying.
        step_option: The option that counts the steps.
    """

    title: str
    kind: str
    options: Mapping[str, Any]
    step_option: str = "steps"


# Foolbox 3 has no SparseFool. The L0 attack below is another algorithm (FMN, Pintor et al. 2021);
# it counts channel elements, not pixels. C&W: 5 x 200 steps, a fiftieth of Foolbox's default.
MINIMAL: Mapping[str, MinimalAttack] = MappingProxyType(
    {
        "deepfool": MinimalAttack("DeepFool L2", "L2DeepFoolAttack", {"steps": 50}),
        "ddn": MinimalAttack("DDN L2", "DDNAttack", {"steps": 100}),
        "cw": MinimalAttack(
            "C&W L2",
            "L2CarliniWagnerAttack",
            {"binary_search_steps": 5, "steps": 200, "initial_const": 0.01},
        ),
        "l0_fmn": MinimalAttack("sparse: L0 FMN", "L0FMNAttack", {"steps": 100}),
        "l1_fmn": MinimalAttack("sparse: L1 FMN", "L1FMNAttack", {"steps": 100}),
    }
)
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "fgsm": "FGSM Linf",
        "pgd": "PGD Linf",
        "fgm": "FGM L2",
        "pgd_l2": "PGD L2",
        **{name: attack.title for name, attack in MINIMAL.items()},
        "band_pgd": "PGD L2 inside one band",
    }
)


def attack_names(text: str) -> list[str]:
    """Names of a comma-separated list, each once; "none" or nothing names none.

    Raises:
        InputError: For an unknown name.
    """
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    names = [] if names == ["none"] else list(dict.fromkeys(names))
    for name in names:
        if name not in TITLES:
            raise InputError(f"no attack is called {name!r}; expected some of {', '.join(TITLES)}")
    return names


def attack_runs(
    names: Sequence[str],
    epsilons_linf: Sequence[float] | None = None,
    epsilons_l2: Sequence[float] | None = None,
    steps: int | None = None,
    partition: SpectralPartition | None = None,
) -> list[AttackRun]:
    """Attacks by name, ready to run: at budgets, or for the least perturbation.

    "band_pgd" stands for one band-restricted attack a band (named band_pgd_0, ...), whose images
    stay valid: they are kept within the bounds, at the price of a little energy outside the band.

    Args:
        names: From `attack_names`.
        epsilons_linf: Budgets of FGSM and PGD in pixel units, in place of the defaults.
        epsilons_l2: Of FGM, L2 PGD and band-restricted PGD.
        steps: Steps of iterated attacks, in place of those in `MINIMAL` and `ATTACKS`.
        partition: The bands of "band_pgd".

    Raises:
        InputError: Budgets or steps out of range.
        MissingExtraError: Foolbox is not installed.
    """
    runs = []
    for name in names:
        if name in ATTACKS:
            (spec,) = parse_attacks(name, epsilons_linf, epsilons_l2, steps)
            epsilons = tuple(sorted({e for e in spec.epsilons if e > 0}))
            runs.append(AttackRun(name, foolbox_attack(spec), epsilons))
            continue
        if name == "band_pgd":
            runs += _band_runs(epsilons_l2, steps, partition or SpectralPartition())
            continue
        minimal = MINIMAL[name]
        options = dict(minimal.options)
        if steps is not None:
            if steps < 1:
                raise InputError(f"{name}: expected steps >= 1, got {steps}")
            options[minimal.step_option] = steps
        kind = getattr(foolbox().attacks, minimal.kind)
        runs.append(AttackRun(name, kind(**options), (None,)))
    return runs


def _band_runs(
    epsilons: Sequence[float] | None, steps: int | None, partition: SpectralPartition
) -> list[AttackRun]:
    """One band-restricted attack a band."""
    from iaside_plugins.adapters.foolbox_adapter.band_pgd import BandRestrictedPGD

    budgets = tuple(sorted({float(e) for e in epsilons or EPSILONS_L2 if e > 0}))
    length: dict[str, Any] = (
        {} if steps is None else {"steps": steps, "rel_stepsize": 2 / max(steps, 1)}
    )
    return [
        AttackRun(
            f"band_pgd_{band}",
            BandRestrictedPGD(
                [band],
                n_bands=partition.n_bands,
                band_norm=partition.norm,
                keep="bounds",
                **length,
            ),
            budgets,
        )
        for band in range(partition.n_bands)
    ]
