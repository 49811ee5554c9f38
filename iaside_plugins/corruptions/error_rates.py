"""Corruption errors: CE per corruption, mCE over a benchmark, and the unnormalised mean error.

``CE_c = sum_s E(f, c, s) / sum_s E(reference, c, s)``; mCE is the mean of CE_c over the corruptions
(Hendrycks and Dietterich, ICLR 2019). The ratio is taken of sums over the severities s = 1..5, not
averaged over severities: only this convention reproduces the published values of RobustBench.
All errors and results are proportions; 1.0 is the reference model, lower is better.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np

from iaside_plugins.errors import InputError, InputTypeError

SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTIONS_3DCC = (  # ImageNet-3DCC (Kar et al., CVPR 2022), in the order of RobustBench's tables
    "near_focus",
    "far_focus",
    "bit_error",
    "color_quant",
    "flash",
    "fog_3d",
    "h265_abr",
    "h265_crf",
    "iso_noise",
    "low_light",
    "xy_motion_blur",
    "z_motion_blur",
)

SeverityErrors = Iterable[float] | Mapping[int, float] | Mapping[str, float]
"""Error rates in [0, 1] of one corruption: five in the order of severity, or severity -> rate."""

CorruptionErrors = Mapping[str, SeverityErrors]
"""Corruption name -> its error rates at severities 1 to 5."""


@dataclass(frozen=True)
class ReferenceTable:
    """A reference model's published errors, with their source.

    Attributes:
        name: Name of the table, as `load_reference` takes it.
        model: The reference model.
        dataset: The images the errors were measured on.
        n_images: Images per corruption and severity.
        source: Where the figures were published.
        licence: Terms of that source.
        note: Remarks for readers.
        mean_errors: Corruption -> mean error over the severities 1 to 5, in [0, 1].
        errors: Corruption -> the five error rates, or None where only the means are published.
    """

    name: str
    model: str
    dataset: str
    n_images: int
    source: str
    licence: str
    note: str
    mean_errors: Mapping[str, float]
    errors: Mapping[str, tuple[float, ...]] | None


def reference_tables() -> tuple[str, ...]:
    """Return the names of the published reference tables of the package, sorted."""
    folder = resources.files("iaside_plugins.corruptions") / "reference_errors"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json")))


@cache
def load_reference(name: str) -> ReferenceTable:
    """Return the published reference table of that name.

    Raises:
        InputError: No such table; the message lists those there are.
    """
    if name not in reference_tables():
        known = ", ".join(reference_tables())
        raise InputError(f"no reference table is called {name!r}; the published ones are: {known}")
    file = resources.files("iaside_plugins.corruptions") / "reference_errors" / f"{name}.json"
    raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "errors" in raw:
        errors = {c: _severity_errors(v, c) for c, v in raw.pop("errors").items()}
        raw["mean_errors"] = {c: _mean(v) for c, v in errors.items()}
        raw["errors"] = MappingProxyType(errors)
    else:
        raw["errors"] = None
    return ReferenceTable(**raw | {"mean_errors": MappingProxyType(raw["mean_errors"])})


def corruption_errors(
    errors: CorruptionErrors, reference: CorruptionErrors | ReferenceTable | str
) -> dict[str, float]:
    """Return the CE of every corruption in `errors`, as a fraction (1.0 = reference model).

    Args:
        errors: Error rates of the model, in [0, 1], at severities 1 to 5 of each corruption.
        reference: The same of the reference model, on the same images; or a published table or
            its name. It may hold corruptions that `errors` lacks.

    Raises:
        InputError: Rates outside [0, 1] (percents), NaN, a number of severities other than five,
            a corruption that the reference lacks, or a reference that never errs on one.
        InputTypeError: Something other than a mapping of numbers.
    """
    return over_reference(_mean_errors(errors), reference_means(reference))


def mean_corruption_error(
    errors: CorruptionErrors, reference: CorruptionErrors | ReferenceTable | str
) -> float:
    """Return the mCE: mean CE over a benchmark's corruptions, a fraction (1.0 = reference model).

    The corruptions must be exactly those of the reference, and a reference that holds ImageNet-C
    (15) or ImageNet-3DCC (12) corruptions must hold all of them and no others: a mean over fewer
    is another quantity, which `unnormalised_mean_error` reports under its own name.

    Args:
        errors: Error rates of the model, in [0, 1], at severities 1 to 5 of each corruption.
        reference: The same of the reference model, on the same images; or a published table or
            its name (see `reference_tables`), which makes an mCE only for the table's own images.

    Raises:
        InputError: As `corruption_errors`, and for a corruption too few or too many.
        InputTypeError: Something other than a mapping of numbers.
    """
    ours, theirs = _mean_errors(errors), reference_means(reference)
    check_benchmark(ours, theirs)
    ratios = over_reference(ours, theirs)
    return math.fsum(ratios.values()) / len(ratios)


def unnormalised_mean_error(errors: CorruptionErrors) -> float:
    """Return the mean error rate over corruptions and severities, in [0, 1]; not an mCE.

    Any set of corruptions is accepted, so name the set wherever the number is shown.

    Raises:
        InputError: No corruption, rates outside [0, 1], NaN, or other than five severities.
        InputTypeError: Something other than a mapping of numbers.
    """
    means = _mean_errors(errors)
    return math.fsum(means.values()) / len(means)


def cell_accuracies(conditions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
    """Return accuracy k / n by (corruption, severity) of an entry's ``conditions``, in their order.

    The count k is restored from the error rate, so that the accuracy is the nearest float to
    k / n, as a count of hits gives it, and not to 1 minus the error.
    """
    cells = {}
    for condition in conditions:
        share = condition["error"]
        hits = share["n"] - round(share["value"] * share["n"])
        cells[condition["corruption"], condition["severity"]] = hits / share["n"]
    return cells


def mean_accuracy(cells: Mapping[tuple[str, int], float]) -> float:
    """Return the plain mean of accuracies over corruptions and severities, as RobustBench does."""
    return float(np.mean(list(cells.values())))  # as there, to the last digit: not fsum


def check_benchmark(ours: Iterable[str], theirs: Iterable[str]) -> None:
    """Raise InputError, as `mean_corruption_error`, unless a mean over these is an mCE.

    Args:
        ours: Corruptions of the model's errors.
        theirs: Corruptions of the reference's.
    """
    _check_set(theirs, _benchmark_of(theirs), "the reference")
    _check_set(ours, theirs, "the errors")


def over_reference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Return numbers of corruptions over the reference's mean errors.

    Raises:
        InputError: The reference lacks one, or never errs on one.
    """
    unknown = [c for c in ours if c not in theirs]
    if unknown:
        raise InputError(
            f"the reference has no errors for {', '.join(unknown)}; it has {', '.join(theirs)}"
        )
    perfect = [c for c in ours if theirs[c] == 0]
    if perfect:
        raise InputError(
            f"the reference model's errors on {', '.join(perfect)} sum to 0, so CE is undefined; "
            "take a reference that errs, such as AlexNet on enough images"
        )
    return {c: mean / theirs[c] for c, mean in ours.items()}


def _mean(rates: tuple[float, ...]) -> float:
    # The sum, and so every number built on it, must not depend on the order of the severities.
    return math.fsum(rates) / len(rates)


def _mean_errors(errors: CorruptionErrors) -> dict[str, float]:
    """Return the mean error over severities of each corruption, checked."""
    if not isinstance(errors, Mapping):
        raise InputTypeError(
            "expected a mapping of corruption -> five error rates, got "
            f"{type(errors).__name__}; for example {{'fog': [0.3, 0.4, 0.5, 0.6, 0.7]}}"
        )
    if not errors:
        raise InputError("expected the errors of at least one corruption, got an empty mapping")
    return {c: _mean(_severity_errors(values, c)) for c, values in errors.items()}


def reference_means(reference: CorruptionErrors | ReferenceTable | str) -> dict[str, float]:
    """Return a reference's mean error over severities of each corruption, checked."""
    if isinstance(reference, str):
        reference = load_reference(reference)
    if isinstance(reference, ReferenceTable):
        return dict(reference.mean_errors)
    return _mean_errors(reference)


def _severity_errors(values: SeverityErrors, corruption: str) -> tuple[float, ...]:
    """Return the five error rates of one corruption in the order of severity, checked."""
    if isinstance(values, Mapping):
        keyed = {str(severity): rate for severity, rate in values.items()}  # JSON keys are text
        if set(keyed) != {str(s) for s in SEVERITIES}:
            raise InputError(f"{corruption}: expected severities 1 to 5, got {', '.join(keyed)}")
        values = [keyed[str(s)] for s in SEVERITIES]
    try:
        rates = tuple(float(rate) for rate in values)
    except (TypeError, ValueError) as error:
        raise InputTypeError(
            f"{corruption}: expected five error rates in [0, 1], got {values!r}"
        ) from error
    if len(rates) != len(SEVERITIES):
        raise InputError(f"{corruption}: expected 5 error rates, severities 1 to 5, got {rates}")
    for severity, rate in zip(SEVERITIES, rates, strict=True):
        if not 0 <= rate <= 1:  # written so that NaN fails too
            hint = "; percents must be divided by 100" if rate > 1 else ""
            raise InputError(
                f"{corruption}, severity {severity}: expected a proportion in [0, 1], "
                f"got {rate}{hint}"
            )
    return rates


def _benchmark_of(corruptions: Iterable[str]) -> frozenset[str]:
    """Return the published benchmark that has some of `corruptions`, or these if none has."""
    given = frozenset(corruptions)
    for name in reference_tables():
        benchmark = frozenset(load_reference(name).mean_errors)
        if given & benchmark:
            return benchmark
    return given


def _check_set(corruptions: Iterable[str], expected: Iterable[str], owner: str) -> None:
    given, wanted = list(corruptions), list(expected)
    lacking = sorted(set(wanted) - set(given))
    extra = sorted(set(given) - set(wanted))
    if lacking:
        raise InputError(
            f"not an mCE: lacks {', '.join(lacking)} ({owner}, of {len(wanted)} corruptions); "
            "use unnormalised_mean_error for what there is"
        )
    if extra:
        raise InputError(
            f"not an mCE: {', '.join(extra)} ({owner}) is not among its {len(wanted)} "
            "corruptions; leave it out"
        )
