"""TODO."""

from __future__ import annotations

from iaside_plugins.errors import InputError


def budgets(text: str | None) -> list[float] | None:
    """Budgets of a list such as "2/255,8/255" or "0.1,0.5", each once; None for no text.

    Raises:
        InputError: For anything that is not a number or a fraction.
    """
    if text is None:
        return None
    found = []
    for part in text.split(","):
        above, slash, below = part.strip().partition("/")
        try:
            found.append(float(above) / (float(below) if slash else 1.0))
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"budgets are numbers or fractions such as 2/255,8/255; got {part.strip()!r}"
            ) from error
    return list(dict.fromkeys(found))


def epsilon(value: float) -> str:
    """A budget in pixel units: n/255 where that is shorter, for example "8/255", else "0.1"."""
    levels = value * 255
    short = any(abs(levels * k - round(levels * k)) < 1e-6 for k in (10, 4))  # tenths, quarters
    if abs(value - round(value, 2)) > 1e-9 and short:
        return f"{levels:.4g}/255"
    return f"{value:.4g}"
