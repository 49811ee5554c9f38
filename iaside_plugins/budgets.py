"""Perturbation budgets in pixel units, as people write them: "8/255", "0.1"."""

from __future__ import annotations

from iaside_plugins.errors import InputError


def parse_budget(text: str) -> float:
    """Return the value of a number or fraction, for example of "0.5" or "8/255".

    Raises:
        InputError: For anything else.
    """
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"expected a budget such as 0.5 or 8/255, got {text!r}") from error


def parse_budgets(text: str | None) -> list[float] | None:
    """Return the budgets of a list such as "2/255,8/255", each once; None for no text.

    Raises:
        InputError: If one of them is neither a number nor a fraction.
    """
    if text is None:
        return None
    return list(dict.fromkeys(parse_budget(part.strip()) for part in text.split(",")))


def format_budget(value: float) -> str:
    """Return a budget as text: n/255 where that is shorter, for example "8/255", else "0.1"."""
    levels = value * 255
    short = any(abs(levels * k - round(levels * k)) < 1e-6 for k in (10, 4))  # tenths, quarters
    if abs(value - round(value, 2)) > 1e-9 and short:
        return f"{levels:.4g}/255"
    return f"{value:.4g}"
