"""The attacks that are run through Foolbox: one table, their budgets, their adversarial images.

Epsilons are in pixel units: images, bounds and epsilons are in [0, 1], and the model normalises
inside. A new attack is one entry of `CATALOGUE`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_adapter.inputs import checked_batch, checked_labels
from iaside_plugins.adapters.foolbox_adapter.models import Counted, foolbox, guarded
from iaside_plugins.adapters.isolation import seed_generators
from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.gradients import backward_failure
from iaside_plugins.inference.running import run_model
from iaside_plugins.seeds import seed_of
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.value_table.progress import Work, added

# Each default budget has published figures to compare with. Linf: 0.5/255 and 2/255 are those of
# imagenet-testbed, 4/255 is RobustBench's for ImageNet, 8/255 its for CIFAR. L2: 0.1 and 0.5 are
# imagenet-testbed's (224 x 224), 0.5 also RobustBench's for CIFAR.
EPSILONS_LINF = (0.5 / 255, 2 / 255, 4 / 255, 8 / 255)
EPSILONS_L2 = (0.1, 0.5)
PATH = 2.5  # steps times step size of an iterated attack, in epsilons
RESTARTS = 2
FOOLBOX, ADVLIB = "foolbox", "adv-lib"
Budget = float | None  # None: the least perturbation that a minimisation attack finds

_FOOLBOX_CLASS = {  # (norm, iterated) -> class in foolbox.attacks
    ("Linf", False): "LinfFastGradientAttack",
    ("Linf", True): "LinfProjectedGradientDescentAttack",
    ("L2", False): "L2FastGradientAttack",
    ("L2", True): "L2ProjectedGradientDescentAttack",
}
_BY_GRADIENT = frozenset(  # classes whose attacks, and those derived from them, follow gradients
    {
        "AdvLibAPGD",
        "BaseGradientDescent",
        "BandRestrictedPGD",
        "BrendelBethgeAttack",
        "DDNAttack",
        "DeepFoolAttack",
        "EADAttack",
        "FMNAttackLp",
        "L2CarliniWagnerAttack",
        "NewtonFoolAttack",
        "VirtualAdversarialAttack",
    }
)


@dataclass(frozen=True)
class AttackSpec:
    """An untargeted gradient attack on the cross-entropy, and the budgets to run it at.

    Attributes:
        name: Name in tables; also enters the seed of the random start.
        norm: "Linf" or "L2", the norm of the budget.
        steps: Gradient steps, or None for a fast-gradient attack (one step of size epsilon).
        rel_stepsize: Step size as a fraction of epsilon; None exactly where `steps` is.
        random_start: Whether to start from a random point of the epsilon ball.
        restarts: How often to start; an image is fooled where any of the tries fools it.
        epsilons: Budgets in pixel units; 0 stands for the clean images.
        title: Name in tables of spectra, with the norm.
        library: Whose program it is.
    """

    name: str
    norm: str
    steps: int | None
    rel_stepsize: float | None
    random_start: bool
    epsilons: tuple[float, ...]
    title: str = field(default="", compare=False)
    restarts: int = 1
    library: str = FOOLBOX

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.norm not in ("Linf", "L2"):
            raise InputError(f"{self.name}: expected norm 'Linf' or 'L2', got {self.norm!r}")
        if (self.steps is None) != (self.rel_stepsize is None):
            raise InputError(f"{self.name}: give both steps and rel_stepsize, or neither")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"{self.name}: expected steps >= 1, got {self.steps}")
        if self.restarts < 1 or (self.restarts > 1 and not self.random_start):
            raise InputError(
                f"{self.name}: expected restarts >= 1, and random starts for more than one, got "
                f"{self.restarts}"
            )
        limit = 1.0 if self.norm == "Linf" else math.inf
        wrong = [e for e in self.epsilons if not (0 <= e <= limit and math.isfinite(e))]
        if wrong or not self.epsilons:
            raise InputError(
                f"{self.name}: expected {self.norm} epsilons in pixel units of [0, 1] images "
                f"(8/255 is {8 / 255:.4f}), got {wrong or 'none'}"
            )

    @property
    def work(self) -> Work:
        """Work of making one image at all budgets: gradients, and a look at every result."""
        n_tries = self.restarts * sum(epsilon > 0 for epsilon in self.epsilons)
        return {"gradient": n_tries * (self.steps or 1), "forward": n_tries}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values: name, norm, steps, ..., restarts."""
        return {k: v for k, v in asdict(self).items() if k not in ("epsilons", "title", "library")}


@dataclass(frozen=True)
class MinimalAttack:
    """An attack that looks for the least perturbation, with the hyper-parameters that are used.

    Attributes:
        title: Name in tables, with the norm.
        kind: Class in foolbox.attacks.
        options: Hyper-parameters, where they differ from Foolbox's defaults or matter; `steps`
            is one of them.
    """

    title: str
    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class BandAttack:
    """One band-restricted attack for every band, see `BandRestrictedPGD`.

    Attributes:
        title: Name in tables, with the norm.
        norm: Of the budget.
    """

    title: str
    norm: str = "L2"


# Iterated gradient attacks take steps of 2.5 epsilon / steps (Madry et al., Towards Deep Learning
# Models Resistant to Adversarial Attacks, ICLR 2018) from two starts, which together cost what
# Foolbox's one does: 40 and 50 gradients an image and budget. Foolbox's own step sizes, 4/3 and
# 5/4 of epsilon / steps, may end behind FGSM on robust networks.
# Foolbox 3 has no SparseFool. The L0 attack below is another algorithm (FMN, Pintor et al. 2021);
# it counts channel elements, not pixels. C&W: 5 x 200 steps, a fiftieth of Foolbox's default.
CATALOGUE: Mapping[str, AttackSpec | MinimalAttack | BandAttack] = MappingProxyType(
    {
        "fgsm": AttackSpec("fgsm", "Linf", None, None, False, EPSILONS_LINF, "FGSM Linf"),
        "pgd": AttackSpec("pgd", "Linf", 20, PATH / 20, True, EPSILONS_LINF, "PGD Linf", RESTARTS),
        "fgm": AttackSpec("fgm", "L2", None, None, False, EPSILONS_L2, "FGM L2"),
        "pgd_l2": AttackSpec("pgd_l2", "L2", 25, PATH / 25, True, EPSILONS_L2, "PGD L2", RESTARTS),
        # its steps begin at 2 epsilon and are halved where the loss stalls
        "apgd_advlib": AttackSpec(
            "apgd_advlib", "Linf", 40, 2.0, True, EPSILONS_LINF, "APGD Linf", library=ADVLIB
        ),
        "deepfool": MinimalAttack("DeepFool L2", "L2DeepFoolAttack", {"steps": 50}),
        "ddn": MinimalAttack("DDN L2", "DDNAttack", {"steps": 100}),
        "cw": MinimalAttack(
            "C&W L2",
            "L2CarliniWagnerAttack",
            {"binary_search_steps": 5, "steps": 200, "initial_const": 0.01},
        ),
        "l0_fmn": MinimalAttack("sparse: L0 FMN", "L0FMNAttack", {"steps": 100}),
        "l1_fmn": MinimalAttack("sparse: L1 FMN", "L1FMNAttack", {"steps": 100}),
        "band_pgd": BandAttack("PGD L2 inside one band"),
    }
)
"""Every attack by the name that the command line takes."""

ATTACKS: Mapping[str, AttackSpec] = MappingProxyType(
    {name: attack for name, attack in CATALOGUE.items() if isinstance(attack, AttackSpec)}
)
"""The gradient attacks of `CATALOGUE`, which `iaside evaluate` runs."""


def parse_attacks(
    text: str,
    epsilons_linf: Sequence[float] | None = None,
    epsilons_l2: Sequence[float] | None = None,
    steps: int | None = None,
) -> tuple[AttackSpec, ...]:
    """Return the attacks named in a comma-separated list, e.g. "fgsm,pgd"; none for an empty text.

    Args:
        text: Names among `ATTACKS`; a repeated one counts once.
        epsilons_linf: Budgets of the Linf attacks in pixel units, in place of the defaults.
        epsilons_l2: The same for the L2 attacks.
        steps: Steps of the iterated attacks, of each start. The step size is scaled so that steps
            times step size stays 2.5 epsilon: with the default step size, fewer steps could not
            even reach the boundary of the ball.

    Raises:
        InputError: An unknown name, no epsilon, an epsilon out of range, or steps below 1.
    """
    specs = []
    for name in _listed(text):
        _check_known(name, ATTACKS)
        spec = ATTACKS[name]
        epsilons = epsilons_linf if spec.norm == "Linf" else epsilons_l2
        if epsilons is not None:
            spec = replace(spec, epsilons=tuple(float(e) for e in epsilons))
        if steps is not None and spec.steps is not None and spec.rel_stepsize is not None:
            step = spec.rel_stepsize  # of adv-lib, which adapts it
            if spec.library == FOOLBOX:
                step = spec.steps * spec.rel_stepsize / max(steps, 1)
            spec = replace(spec, steps=steps, rel_stepsize=step)
        specs.append(spec)
    return tuple(specs)


def attack_names(text: str) -> list[str]:
    """Return the names of a comma-separated list, each once; none for "none" or nothing.

    Raises:
        InputError: For an unknown name.
    """
    names = _listed(text)
    if names == ["none"]:
        return []
    for name in names:
        _check_known(name, CATALOGUE)
    return names


def _listed(text: str) -> list[str]:
    """Return the words of a comma-separated list in lower case, each once."""
    return list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def _check_known(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise InputError(f"no attack is called {name!r}; expected some of {', '.join(known)}")


@dataclass(frozen=True)
class AttackRun:
    """One Foolbox attack and the budgets to run it at.

    Attributes:
        name: In tables; enters the seed of every batch.
        attack: The Foolbox attack.
        epsilons: Budgets in units of the model's bounds; None (first) for the least perturbation
            of a minimisation attack.
        clean: Whether budget 0 is wanted too: the clean images, for which nothing is run.

    Raises:
        InputError: No budgets, budgets out of range, None for an attack of fixed budgets, or an
            attack without a chosen distance.
        InputTypeError: Not an attack with a distance (spatial attacks have no budget).
    """

    name: str
    attack: Any
    epsilons: tuple[Budget, ...]
    clean: bool = False

    def __post_init__(self) -> None:
        base = foolbox().attacks.base
        if not isinstance(self.attack, base.AttackWithDistance):
            raise InputTypeError(
                f"{self.name}: expected a Foolbox attack with budgets, got "
                f"{type(self.attack).__name__}"
            )
        try:
            _ = self.attack.distance
        except ValueError as error:
            raise InputError(
                f"{self.name}: expected an attack with a distance, got {self.attack!r}: choose "
                "one, such as distance=foolbox.distances.l2"
            ) from error
        numbers = [e for e in self.epsilons if e is not None]
        nothing = not self.epsilons and not self.clean
        if nothing or any(not 0 < e < float("inf") for e in numbers):
            raise InputError(
                f"{self.name}: expected finite budgets of at least 0, some above 0, got "
                f"{list(self.epsilons) or 'none'}"
            )
        if None in self.epsilons and not self.minimal:
            raise InputError(f"{self.name} attacks at fixed budgets: give it some")

    @property
    def minimal(self) -> bool:
        """Whether the attack looks for the least perturbation instead of taking a budget."""
        return isinstance(self._innermost, foolbox().attacks.base.MinimizationAttack)

    @property
    def by_gradient(self) -> bool:
        """Whether the attack follows gradients: by the bases that Foolbox and this package have."""
        kinds = {kind.__name__ for kind in type(self._innermost).__mro__}
        return not kinds.isdisjoint(_BY_GRADIENT)

    @property
    def work(self) -> Work:
        """Work of one image at all budgets, as far as the attack tells its steps."""
        attack, n_tries = self._innermost, getattr(self.attack, "times", 1)
        n_tries *= getattr(attack, "restarts", 1) * getattr(attack, "binary_search_steps", 1)
        n_tries *= 1 if self.minimal else len(self.epsilons)
        kind = "gradient" if self.by_gradient else "forward"
        works = {kind: n_tries * (getattr(attack, "steps", None) or 1)}
        return added(works, {"forward": len(self.epsilons)})

    @property
    def steps(self) -> int | None:
        """Steps of an attack by gradients at fixed budgets, None for a single one."""
        steps = getattr(self._innermost, "steps", None)
        return None if steps == 1 else steps

    @property
    def _innermost(self) -> Any:
        """The attack itself, where it is repeated."""
        attack = self.attack
        while hasattr(attack, "attack"):  # repeated attacks wrap one
            attack = attack.attack
        return attack

    @property
    def norm(self) -> str:
        """Norm of its budgets: "Linf", "L2", "L1" or "L0"."""
        p = getattr(self.attack.distance, "p", None)
        return f"L{p:g}" if p is not None else str(self.attack.distance)

    @property
    def settings(self) -> str:
        """The attack as it prints: its class and hyper-parameters."""
        return repr(self.attack)


def attack_runs(
    names: Sequence[str],
    epsilons_linf: Sequence[float] | None = None,
    epsilons_l2: Sequence[float] | None = None,
    steps: int | None = None,
    partition: SpectralPartition | None = None,
) -> list[AttackRun]:
    """Return attacks by name, ready to run: at budgets, or for the least perturbation.

    "band_pgd" is one band-restricted attack for every band (named band_pgd_0, ...), whose images
    stay within the bounds, at the price of a little energy outside the band.

    Args:
        names: From `attack_names`.
        epsilons_linf: Budgets of FGSM and PGD in pixel units, in place of the defaults.
        epsilons_l2: Of FGM, L2 PGD and band-restricted PGD.
        steps: Steps of iterated attacks, in place of those in `CATALOGUE`.
        partition: The bands of "band_pgd".

    Raises:
        InputError: Budgets or steps out of range.
        MissingExtraError: Foolbox is not installed.
    """
    runs = []
    for name in names:
        attack = CATALOGUE[name]
        if isinstance(attack, AttackSpec):
            (spec,) = parse_attacks(name, epsilons_linf, epsilons_l2, steps)
            runs.append(AttackRun(name, foolbox_attack(spec), _but_zero(spec.epsilons)))
        elif isinstance(attack, BandAttack):
            runs += _band_runs(name, epsilons_l2, steps, partition or SpectralPartition())
        else:
            runs.append(AttackRun(name, _minimal_attack(name, attack, steps), (None,)))
    return runs


def _but_zero(epsilons: Sequence[float]) -> tuple[float, ...]:
    """Return budgets in order, without that of the clean images if there are others."""
    return tuple(sorted({float(e) for e in epsilons if e != 0})) or tuple(epsilons)


def _minimal_attack(name: str, attack: MinimalAttack, steps: int | None) -> Any:
    """Return the Foolbox attack, with its own number of steps or the given one."""
    options = dict(attack.options)
    if steps is not None:
        if steps < 1:
            raise InputError(f"{name}: expected steps >= 1, got {steps}")
        options["steps"] = steps
    return getattr(foolbox().attacks, attack.kind)(**options)


def _band_runs(
    name: str, epsilons: Sequence[float] | None, steps: int | None, partition: SpectralPartition
) -> list[AttackRun]:
    """Return one band-restricted attack for every band."""
    from iaside_plugins.adapters.foolbox_adapter.band_pgd import BandRestrictedPGD

    length: dict[str, Any] = (
        {} if steps is None else {"steps": steps, "rel_stepsize": 2 / max(steps, 1)}
    )
    return [
        AttackRun(
            f"{name}_{band}",
            BandRestrictedPGD(
                [band],
                n_bands=partition.n_bands,
                band_norm=partition.norm,
                keep="bounds",
                **length,
            ),
            _but_zero(epsilons or EPSILONS_L2),
        )
        for band in range(partition.n_bands)
    ]


def attack_seed(seed: int, name: str, first_index: int) -> int:
    """Return the seed of one batch's random start, in [0, 2**63): a function of the arguments."""
    return seed_of(seed, name, first_index)


def adversarial(
    model: nn.Module,
    images: Tensor,
    labels: Any,
    spec: AttackSpec,
    *,
    seed: int,
    first_index: int = 0,
) -> list[Tensor]:
    """Return the adversarial images of one batch, (N, C, H, W) float32 for each epsilon of `spec`.

    They lie in [0, 1] and within epsilon of the images, up to float32 rounding; whether they fool
    the model is not checked. Random starts are drawn anew for every
    epsilon from (seed, attack, first_index), so a result depends neither on other batches nor on
    the other epsilons; it does depend on the batch size and the kind of device.

    Args:
        model: Eval-mode module, (N, C, H, W) images in [0, 1] -> (N, n_classes) logits.
        images: (N, C, H, W) floats in [0, 1], on any device; N may be 0.
        labels: (N,) integers, the true classes.
        spec: The attack and its epsilons; epsilon 0 returns the clean images.
        seed: Seed of the run.
        first_index: Index of the batch's first image in the data set.

    Returns:
        Tensors on the model's device, without gradients.

    Raises:
        InputError: As `guarded`; images out of [0, 1]; labels that do not fit.
        InputTypeError: Images or labels of the wrong type.
    """
    here = getattr(images, "device", "cpu")
    if isinstance(model, nn.Module):
        here = next((t.device for t in chain(model.parameters(), model.buffers())), here)
    device = torch.device(here)
    with guarded(model, device) as fmodel:
        x, y = checked_batch(images, labels, device)
        if len(x) and any(spec.epsilons):
            with torch.no_grad():  # else a label without an output is the attack's IndexError
                checked_labels(y, len(y), run_model(fmodel, x[:1].clone()).shape[1])
        attack, counted = foolbox_attack(spec), Counted(fmodel)
        batches = []
        for epsilon in spec.epsilons:
            seed_generators(attack_seed(seed, spec.name, first_index), device)
            nothing = epsilon == 0 or len(x) == 0
            with attack_failures(spec.name):
                batches.append(x if nothing else attack(counted, x, y, epsilons=epsilon)[1])
    return batches


@contextmanager
def attack_failures(name: str) -> Iterator[None]:
    """Turn whatever an attack, or a model inside it, raises into one line with its cause.

    Args:
        name: Of the attack.

    Raises:
        InputError: For any error but a lack of memory.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise backward_failure(error, f"the attack {name}") from error


def foolbox_attack(spec: AttackSpec) -> Any:
    """Return the Foolbox attack of a spec, which takes its epsilons when it is called."""
    if spec.library == ADVLIB:
        from iaside_plugins.adapters.foolbox_adapter.advlib_apgd import AdvLibAPGD

        return AdvLibAPGD(spec.norm, spec.steps or 1, spec.restarts)
    kind = getattr(foolbox().attacks, _FOOLBOX_CLASS[spec.norm, spec.steps is not None])
    if spec.steps is None:
        return kind(random_start=spec.random_start)
    once = kind(steps=spec.steps, rel_stepsize=spec.rel_stepsize, random_start=spec.random_start)
    return once if spec.restarts == 1 else once.repeat(spec.restarts)
