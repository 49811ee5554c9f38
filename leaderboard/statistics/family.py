"""Which models count as one family: variants of one architecture, trained in one way."""

from __future__ import annotations

import re

SIZES = frozenset(
    {"atto", "femto", "pico", "nano", "tiny", "mini", "small", "medium", "base", "large", "xlarge",
     "huge", "giant", "patch"}
)  # fmt: skip
UNKNOWN = "unknown"


def family(architecture: str, training: str | None) -> str:
    """The family of a model, for resampling: "resnet, adversarial".

    Models that differ in size, budget or seed alone are not independent draws, so an interval
    that resamples models one by one is too short for them. A family is the architecture's name up
    to its first number, without words for sizes and without pieces of one or two letters, and the
    training up to its first comma or bracket ("adversarial, L-inf 2/255" is "adversarial").
    Models of unstated training are one family an architecture: rather too few families than too
    many.

    Args:
        architecture: The host's name of it, such as "resnet50" or "DeiT Base".
        training: How it was trained; None if unstated.
    """
    head = re.split(r"v?\d", architecture.lower(), maxsplit=1)[0]
    words = [word for word in re.findall(r"[^\W\d_]+", head) if len(word) > 2]
    name = " ".join(word for word in words if word not in SIZES)
    way = re.split(r"[,(\[]", (training or UNKNOWN).lower(), maxsplit=1)[0].strip()
    return f"{name or ' '.join(architecture.lower().split())}, {way or UNKNOWN}"
