"""Mutations of entries, seeded: of values, of structure and of bytes, one to three at a time."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Iterator
from typing import Any

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.clashes import clashes
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.errors import InputError

RAW = "raw JSON "  # what follows replaces the text, so that it may be no value of Python
VALUES: list[Any] = [
    *(True, False, None, 0, 1, -1, 2, 0.5, -0.5, 1e-300, 1e300, 1e6, 2**53, 2**64, 10**30),
    *("", " ", "x", "1", "\u200b", "a\u0000b", "\ud800", "x" * 3000, "a " * 5000, "=1+1", "../x"),
    *([], {}, [[]], [None], [1] * 40, {"a": 1}, [1e6] * 8, [0.0] * 256, "/home/x", "con", "-"),
    *(RAW + text for text in ("NaN", "Infinity", "-0", "1e999", "9" * 5000, "[" * 3000, "\\u12")),
    *(RAW + text for text in ("[" * 100_000, '{"a":' * 50_000, "1.0", "01", "'x'", "0" * 400)),
]


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value but the whole."""
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def mutated(text: str, draw: random.Random) -> bytes:
    """Return the bytes of an entry with one to three changes."""
    kind = draw.random()
    if kind < 0.1:
        return _bytes(text.encode(), draw)
    raw = json.loads(text)
    raws: dict[str, str] = {}
    for _ in range(draw.choice((1, 1, 2, 3))):
        if not raw:
            break
        _change(raw, draw, raws)
    out = json.dumps(raw)
    for mark, value in raws.items():
        out = out.replace(f'"{mark}"', value)
    return out.encode("utf-8", "surrogatepass")


def _change(raw: dict[str, Any], draw: random.Random, raws: dict[str, str]) -> None:
    part: Any = raw
    while True:  # key by key, so that a long table is not drawn more often than a name
        last = draw.choice(list(part) if isinstance(part, dict) else range(len(part)))
        inner = part[last]
        if not isinstance(inner, (dict, list)) or not inner or draw.random() < 0.15:
            break
        part = inner
    old, kind = copy.deepcopy(part[last]), draw.random()
    if kind < 0.15:
        del part[last]
    elif kind < 0.25 and isinstance(part, dict):
        part[draw.choice(("x", " ", "a~/b", "k" * 5000, last + "\u200b"))] = old
    elif kind < 0.35 and isinstance(part, list):
        part.insert(draw.randrange(len(part) + 1), old)
    elif kind < 0.5 and isinstance(old, (int, float)):
        part[last] = old * draw.choice((-1, 2, 100, 1 + 1e-9, 1 + 1e-3, 1e9)) + draw.choice((0, 1))
    elif kind < 0.6 and isinstance(old, str):
        k = draw.randrange(len(old) + 1)
        part[last] = old[:k] + draw.choice(("\u00ad", "\n", "\u0435", "'", " ", "=")) + old[k:]
    else:
        value = copy.deepcopy(draw.choice(VALUES))
        if isinstance(value, str) and value.startswith(RAW):
            mark = f"raw value {len(raws)}"
            raws[mark], value = value[len(RAW) :], mark
        part[last] = value


def _bytes(data: bytes, draw: random.Random) -> bytes:
    k, kind = draw.randrange(len(data)), draw.random()
    if kind < 0.3:
        return data[:k]
    if kind < 0.6:
        return data[:k] + bytes([draw.randrange(256)]) + data[k + 1 :]
    if kind < 0.8:
        return data[:k] + data[k : k + 50] + data[k:]
    return data[:k] + bytes(draw.randrange(256) for _ in range(8)) + data[k:]


def judged(data: bytes) -> tuple[list[str], float]:
    """Return what is wrong with an entry, and the seconds of the processor that it took to say."""
    start = time.process_time()
    try:
        entry = parse_entry(data, "x.json")
        found = check_entry(entry, entry.entry_id)
        found += [problem for _, problem in clashes([entry])]
    except InputError as error:
        found = [str(error)]
    return found, time.process_time() - start
