"""I-ASIDE for users of Foolbox (extra `foolbox`): the public names.

- `SpectralEvaluator`: spectral importance of a Foolbox model; `spectral_score`, its one number.
- `SpectralMaskModel`: a Foolbox model that sees some bands only.
- `BandRestrictedPGD`: an attack whose perturbation is confined to some bands.
- `explain`: the errors that an attack caused, split over the bands of its perturbations.
- `robust_evaluation`: attacks and budgets over a whole data set, resumable.
- `parse_attacks`, `adversarial`, `guarded`: the attacks of `iaside evaluate`.

Importing this needs no Foolbox; running it does.
"""

from typing import TYPE_CHECKING, Any

from iaside_plugins.adapters.foolbox_adapter.attacks import (
    ATTACKS,
    AttackSpec,
    adversarial,
    attack_seed,
    foolbox_attack,
    parse_attacks,
)
from iaside_plugins.adapters.foolbox_adapter.evaluator import SpectralEvaluator, spectral_score
from iaside_plugins.adapters.foolbox_adapter.explain import explain
from iaside_plugins.adapters.foolbox_adapter.masked_model import SpectralMaskModel
from iaside_plugins.adapters.foolbox_adapter.models import check_installed, guarded
from iaside_plugins.adapters.foolbox_adapter.robust_evaluation import robust_evaluation

if TYPE_CHECKING:
    from iaside_plugins.adapters.foolbox_adapter.band_pgd import BandRestrictedPGD

__all__ = [
    "ATTACKS",
    "AttackSpec",
    "BandRestrictedPGD",
    "SpectralEvaluator",
    "SpectralMaskModel",
    "adversarial",
    "attack_seed",
    "check_installed",
    "explain",
    "foolbox_attack",
    "guarded",
    "parse_attacks",
    "robust_evaluation",
    "spectral_score",
]


def __getattr__(name: str) -> Any:
    """Import `BandRestrictedPGD` on first use: it is a subclass of a Foolbox class."""
    if name == "BandRestrictedPGD":
        from iaside_plugins.adapters.foolbox_adapter.band_pgd import BandRestrictedPGD

        return BandRestrictedPGD
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
