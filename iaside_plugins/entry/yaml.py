"""Values as YAML, for files that other programs read."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

# What YAML does not take as it is inside quotes, and JSON does.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_PLAIN = re.compile(r"[a-z][a-z0-9_-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # no text in YAML 1.1


def to_yaml(value: Any) -> str:
    """Return a mapping or a list as YAML; lists of numbers and text stay on one line."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _item(f"{_key(key)}:", item)]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [line for item in value for line in _element(item)]
    return [_flow(value)]


def _item(head: str, value: Any) -> list[str]:
    """Return a key with its value behind it, or below it if the value takes several lines."""
    inner = _lines(value)
    if isinstance(value, (dict, list)) and value and not (len(inner) == 1 and inner[0][0] == "["):
        return [head, *(f"  {line}" for line in inner)]
    return [f"{head} {inner[0]}"]


def _element(value: Any) -> list[str]:
    first, *rest = _lines(value)
    return [f"- {first}", *(f"  {line}" for line in rest)]


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float):
        digits = format(Decimal(json.dumps(value, allow_nan=False)), "f")
        return digits if "." in digits else f"{digits}.0"
    return json.dumps(value, allow_nan=False)


def _key(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text not in _WORDS else _quoted(text)


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False)
    )
