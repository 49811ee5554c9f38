"""The fields of an entry, from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "leaderboard" / "entry.schema.json"


def write(path: Path) -> None:
    """Write a table of fields for the entry and for each of its groups."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = [_table("The whole", schema)]
    parts += [_table(name, group) for name, group in schema["$defs"].items()]
    path.write_text("\n".join(parts), encoding="utf-8")


def _table(name: str, group: Mapping[str, Any]) -> str:
    rows = [f"## {name}", "", group["description"], "", "| field | value |", "|---|---|"]
    required = group.get("required", ())
    for field, value in group["properties"].items():
        optional = "" if field in required else "; may be left out"
        rows.append(f"| `{field}` | {kind(value)}{optional} |")
    return "\n".join([*rows, ""])


def kind(value: Mapping[str, Any]) -> str:
    """Return in words what a JSON Schema asks of a value, as Markdown for a table's cell."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(kind(one) for one in value["anyOf"])
    if "const" in value or "enum" in value:
        allowed = value.get("enum", [value.get("const")])
        if len(allowed) > 6:
            return f"one of {len(allowed)}: `{allowed[0]}` to `{allowed[-1]}`"
        return " or ".join(f"`{json.dumps(one)}`" for one in allowed)
    if "prefixItems" in value:
        return "[" + ", ".join(kind(one) for one in value["prefixItems"]) + "]"
    if value["type"] == "array":
        return f"list of: {kind(value['items'])}"
    if value["type"] == "object":
        return f"by name: {kind(value['additionalProperties'])}"
    if "pattern" in value:
        return f"text that matches `{value['pattern']}`"
    least = value.get("minimum", value.get("exclusiveMinimum"))
    most = value.get("maximum", value.get("exclusiveMaximum"))
    words = {
        "string": "text",
        "null": "null",
        "boolean": "true or false",
        "integer": "whole number",
    }
    name: str = words.get(value["type"], "number")
    bounded = most is not None and most <= 1
    if least in (0, 1) or bounded:
        name += f", {least:g} to {most:g}" if bounded else f" from {least:g} on"
    return name
