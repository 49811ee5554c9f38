"""From JSON to an `Entry`: ambiguous JSON is refused, types and lengths are checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from iaside_plugins.entry.schema import Entry, ValidationError
from iaside_plugins.errors import InputError, cut, shown

__all__ = ["MAX_BYTES", "Entry", "parse_entry", "pointer"]

MAX_BYTES = 5_000_000
MAX_VALUES = 100_000  # far more than any entry has; each of a wrong type costs time
MAX_LISTED = 10  # problems named in one error


def parse_entry(text: str | bytes, name: str) -> Entry:
    """Parse an entry's JSON text (UTF-8) and check types, ranges and lengths.

    Args:
        text: The JSON.
        name: What errors call it, for example the file's name.

    Raises:
        InputError: Not JSON, a key twice, NaN or Infinity, above 5 MB or 100,000 values, or not an
            entry; each of
            the first problems is named by its JSON pointer.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: {len(data):,} bytes, expected an entry of at most {MAX_BYTES:,}")
    raw = _json(data, name)
    try:
        entry = Entry.model_validate_json(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(detail, raw) for detail in details[:MAX_LISTED]]
        raise _refused(name, problems, len(details)) from None
    if problems := list(_lengths(entry)):
        raise _refused(name, problems, len(problems))
    return entry


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a place in an entry."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _refused(name: str, problems: list[str], n: int) -> InputError:
    more = [f"and {n - MAX_LISTED} more"] if n > MAX_LISTED else []
    return InputError(f"{name}: " + "; ".join(problems[:MAX_LISTED] + more))


def _json(data: bytes, name: str) -> Any:
    """Parse JSON and refuse what parsers disagree about: duplicate keys, NaN, Infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{name}: the key {shown(key)} comes twice in one object")
            found[key] = value
        return found

    def refuse(constant: str) -> None:
        raise InputError(f"{name}: {constant} is not JSON; an undefined number is null")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
        if (n := _n_values(found)) > MAX_VALUES:
            raise InputError(f"{name}: {n:,} values, expected an entry of at most {MAX_VALUES:,}")
        return found
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{name}: nested too deeply to be an entry") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: expected JSON in UTF-8; {error}") from None
    except ValueError:
        raise InputError(
            f"{name}: expected JSON in UTF-8; a number has thousands of digits"
        ) from None


def _n_values(raw: Any) -> int:
    """Return the number of values in lists and objects, all levels together."""
    n, left = 0, [raw] if isinstance(raw, (dict, list)) else []
    while left:
        part = left.pop()
        n += len(part)
        items = part.values() if isinstance(part, dict) else part
        left += [item for item in items if isinstance(item, (dict, list))]
    return n


def _problem(detail: Any, raw: Any) -> str:
    """Format one pydantic error: pointer, what was expected, what came."""
    place: list[str | int] = []
    found = raw
    for part in detail["loc"]:
        if detail["type"] == "missing" and part == detail["loc"][-1]:
            place.append(part)
        elif isinstance(found, (dict, list)):
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                continue  # pydantic's own marks, such as the branch of a union
            place.append(part)
    message = str(detail["msg"])
    if detail["type"] not in ("missing", "json_invalid"):
        message += f", got {_short_json(detail['input'])}"
    if detail["type"] == "less_than_equal" and detail["ctx"]["le"] == 1:
        message += " (percents must be divided by 100)"
    return f"{cut(pointer(*place), 200) or '(whole file)'}: {' '.join(message.split())}"


def _short_json(value: Any) -> str:
    """Return a value as JSON of at most 60 characters."""
    try:
        got = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return got if len(got) <= 60 else f"{got[:57]}..."


def _lengths(entry: Entry) -> Iterator[str]:
    """Yield lists whose length does not fit the number of bands."""
    n_bands = entry.protocol.n_bands
    expected = {
        "band_edges": n_bands + 1,
        "value_table": 2**n_bands,
        "shapley_values": n_bands,
        "shapley_se": n_bands,
        "distribution": n_bands,
        "distribution_interval": n_bands,
    }
    for home, spectral in entry.spectra.items():
        for name, length in expected.items():
            values = getattr(spectral, name)
            if values is not None and len(values) != length:
                yield f"{pointer(*home, name)}: expected {length} numbers, got {len(values)}"
        for k, band in enumerate(spectral.tied_bands):
            if band >= n_bands:
                place = pointer(*home, "tied_bands", k)
                yield f"{place}: expected a band below {n_bands}, got {band}"
    preprocessing = entry.model.preprocessing
    if len(preprocessing.mean) != len(preprocessing.std):
        yield (
            f"{pointer('model', 'preprocessing', 'std')}: expected {len(preprocessing.mean)} "
            f"numbers as in mean, got {len(preprocessing.std)}"
        )


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def entry_schema() -> str:
    """Return the JSON Schema (2020-12) of an entry as text: types, names, units and ranges.

    It cannot say what one field asks of another (lengths, sums, recomputed numbers):
    `iaside leaderboard validate` checks those too.
    """
    schema = {
        "$schema": DIALECT,
        **Entry.model_json_schema(mode="validation"),
        "title": "Leaderboard entry",
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
