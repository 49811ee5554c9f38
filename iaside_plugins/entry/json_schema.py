"""The schema of an entry for tools that are not written in Python."""

from __future__ import annotations

import json

from iaside_plugins.entry.schema import Entry

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def entry_schema() -> str:
    """JSON Schema (2020-12) of an entry: types, names, units and ranges, as text.

    It cannot say what one field asks of another (lengths, sums, recomputed numbers):
    `iaside leaderboard validate` checks those too.
    """
    schema = {
        "$schema": DIALECT,
        **Entry.model_json_schema(mode="validation"),
        "title": "Leaderboard entry",
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
