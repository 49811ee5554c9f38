"""Two runs of the same entries: the greatest difference of any number, by part of the entry.

    python tests/bench/bench_rerun.py FIRST SECOND --json rerun.json

compares the entries of folder SECOND with those of the same names in FIRST. Rates may differ by one
image (a prediction on the edge of two classes), numbers in nats by the tolerance of fast passes;
exit 1 if they differ by more, or in anything else but when, where and by which passes they were
made.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NATS = 1e-3  # `inference.tuning.TOLERANCE`
ROUNDING = 1e-9
SKIPPED = ("provenance", "submission")
# Which images are right is counted by the rates beside it; a resumed run makes fewer passes.
BESIDE = ("images", "n_forward", "forwards")


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of JSON values with its place."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        if key in BESIDE:
            continue
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
        {k: v for k, v in numbers(one) if k.split("/")[1] not in SKIPPED} for one in (first, second)
    ]
    if leaves[0].keys() != leaves[1].keys():
        raise ValueError(f"only one has {sorted(leaves[0].keys() ^ leaves[1].keys())[0]}")
    found: dict[str, float] = {}
    for place, a in leaves[0].items():
        b, part = leaves[1][place], place.split("/")[1]
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            if not math.isfinite(a - b):
                raise ValueError(f"{place}: {a!r} and {b!r}")
            found[part] = max(found.get(part, 0.0), abs(a - b))
        elif a != b:
            raise ValueError(f"{place}: {a!r} and {b!r}")
    return found


def tolerances(entry: dict[str, Any]) -> dict[str, float]:
    """How much the numbers of each part may differ."""
    n_explained = (entry.get("decomposition") or {}).get("n_images")
    one_image = dict.fromkeys(entry, 1 / entry["data"]["n_images"])
    return one_image | {"spectral": NATS, "decomposition": 1 / (n_explained or 1)}


def main(arguments: list[str] | None = None) -> int:
    """Print a table for each entry; 1 if a part differs by more than its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    report, bad = [], False
    for file in sorted(options.second.glob("*.json")):
        first, second = (json.loads(f.read_text()) for f in (options.first / file.name, file))
        name, dates = first["model"]["name"], [e["provenance"]["date"] for e in (first, second)]
        print(f"{name}: {dates[0]}, {dates[1]}")
        most = tolerances(first)
        found = differences(first, second)
        for part, value in found.items():
            above = value > most[part] + ROUNDING
            bad |= above
            print(f"  {part}: {value:.2g}, at most {most[part]:.2g}{'  MORE' if above else ''}")
        report.append({"name": name, "dates": dates, "differences": found})
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(bad or not report)


if __name__ == "__main__":
    sys.exit(main())
