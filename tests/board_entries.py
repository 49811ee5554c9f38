"""Helpers of the tests of the board: parsed synthetic entries, and a hostile name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.schema import Entry

Make = Callable[..., dict[str, Any]]  # the fixture `make_entry`
HOSTILE = '<b>|_&"=1+1'


def parsed(*raws: dict[str, Any]) -> list[Entry]:
    return [parse_entry(json.dumps(raw), "x.json") for raw in raws]
