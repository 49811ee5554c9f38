"""Two runs of the same entry: the greatest difference of any number, by part of the entry.

    python tests/bench/bench_rerun.py FIRST.json SECOND.json

Rates may differ by one image (a prediction on the edge of two classes), numbers in nats by the
tolerance of fast passes; exit 1 if they differ by more, or in anything else but when, where and by
which version they were made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NATS = 1e-3  # `inference.tuning.TOLERANCE`
SKIPPED = ("provenance", "submission")
IN_NATS = ("spectral",)


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of JSON values with its place."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        if isinstance(one, (dict, list)):
            yield from numbers(one, f"{place}/{key}")
        else:
            yield f"{place}/{key}", one


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """The greatest difference of a number by part of the entry.

    Raises:
        ValueError: If anything else differs: a text, a part, the length of a list.
    """
    leaves = [
        {k: v for k, v in numbers(one) if k.split("/")[1] not in SKIPPED and not _is_bits(k)}
        for one in (first, second)
    ]
    if leaves[0].keys() != leaves[1].keys():
        raise ValueError(f"only one has {sorted(leaves[0].keys() ^ leaves[1].keys())[0]}")
    found: dict[str, float] = {}
    for place, a in leaves[0].items():
        b, part = leaves[1][place], place.split("/")[1]
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            found[part] = max(found.get(part, 0.0), abs(a - b))
        elif a != b:
            raise ValueError(f"{place}: {a!r} and {b!r}")
    return found


def _is_bits(place: str) -> bool:
    """Which images are right, which the rates beside them already count."""
    return place.endswith("/images")


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a part differs by more than its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args(arguments)
    first, second = (json.loads(f.read_text()) for f in (options.first, options.second))
    print(
        f"{first['model']['name']}: {first['provenance']['date']}, {second['provenance']['date']}"
    )
    n = min(first["data"]["n_images"], first.get("decomposition", {}).get("n_images", 10**9))
    bad = 0
    for part, value in differences(first, second).items():
        most = NATS if part in IN_NATS else 1 / n
        bad |= value > most + 1e-9
        print(
            f"  {part}: {value:.2g}, at most {most:.2g}{'' if value <= most + 1e-9 else '  MORE'}"
        )
    return bad


if __name__ == "__main__":
    sys.exit(main())
