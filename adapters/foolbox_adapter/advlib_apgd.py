"""APGD of adv-lib as a Foolbox attack: a second program to check the first one's figures with."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.foolbox_adapter.models import foolbox, native, restorer
from iaside_plugins.adapters.foolbox_adapter.pixel_space import PixelSpace
from iaside_plugins.errors import InputError, MissingExtraError

NAME = "adv_lib.attacks.auto_pgd"


def import_apgd() -> Any:
    """Return adv-lib's `apgd`.

    Its module is loaded from its file: the package around it imports torchvision and visdom, of
    which the attack uses nothing and the second does not build with today's setuptools.

    Raises:
        MissingExtraError: adv-lib is not installed, or of another layout.
    """
    try:
        package = importlib.util.find_spec("adv_lib")
        if package is None or package.origin is None:
            raise ImportError("No module named 'adv_lib'")
        if NAME not in sys.modules:
            file = Path(package.origin).parent / "attacks" / "auto_pgd.py"
            spec = importlib.util.spec_from_file_location(NAME, file)
            if spec is None or spec.loader is None:
                raise ImportError(f"no {file.name}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[NAME] = module
        return sys.modules[NAME].apgd
    except (ImportError, OSError, AttributeError) as error:
        raise MissingExtraError(
            f"apgd_advlib needs adv-lib, which cannot be imported ({error}): "
            "pip install --no-deps adv-lib"
        ) from error


class AdvLibAPGD(foolbox().attacks.base.FixedEpsilonAttack):  # type: ignore[misc]  # no types
    """APGD on the cross-entropy (Croce and Hein, ICML 2020), untargeted, by adv-lib.

    Args:
        norm: "Linf" or "L2", of the budget.
        steps: Gradient steps.
        restarts: Random starts.

    Raises:
        InputError: A value out of range.
        MissingExtraError: adv-lib is not installed.
    """

    def __init__(self, norm: str = "Linf", steps: int = 40, restarts: int = 1) -> None:
        if norm not in ("Linf", "L2") or steps < 1 or restarts < 1:
            raise InputError(
                f"expected norm 'Linf' or 'L2', steps and restarts >= 1, got {norm!r}, {steps} "
                f"and {restarts}"
            )
        import_apgd()
        self.norm, self.steps, self.restarts = norm, steps, restarts

    @property
    def distance(self) -> Any:
        """Foolbox's distance of the norm."""
        distances = foolbox().distances
        return distances.l2 if self.norm == "L2" else distances.linf

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Return perturbed inputs; called by Foolbox.

        Raises:
            InputError: For a criterion without labels.
        """
        foolbox().attacks.base.raise_if_kwargs(kwargs)
        known = foolbox().attacks.base.get_criterion(criterion)
        if not hasattr(known, "labels"):
            raise InputError(f"expected Misclassification, got {type(criterion).__name__}")
        restore, space = restorer(inputs), PixelSpace(model)
        lower, upper = space.bounds
        found = import_apgd()(
            lambda pixels: native(model(space.leave(pixels))),
            space.enter(native(inputs)).detach().clone(),
            native(known.labels),
            eps=epsilon / (upper - lower),
            norm=2 if self.norm == "L2" else float("inf"),
            n_iter=self.steps,
            n_restarts=self.restarts,
            loss_function="ce",
        )
        return restore(space.leave(found))
