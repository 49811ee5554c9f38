"""Strings of an entry: no path, no name of a host, nothing that hides on a screen."""

from __future__ import annotations

import re
from collections.abc import Iterator

from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.schema import Entry, Model

Problems = Iterator[str]
PRIVATE = re.compile(
    r"""file://
    | (?:^|[\s"'`=:;,(\[{|]) (?: /(?!/)[\w.~-] | ~[\w.-]*[/\\] )     # /home/..., ~/..., ~user/...
    | (?<![A-Za-z0-9]) [A-Za-z]:[\\/] | \\\\[\w.-]+\\                # C:\..., \\server\...
    | \$\{?HOME\b | %(?:USERPROFILE|HOMEPATH)%""",
    re.VERBOSE | re.IGNORECASE,
)
HOST = re.compile(
    r"""\blocalhost\b | \b[\w-]+\.(?:local|localdomain|internal|intranet|lan|corp|home\.arpa)\b
    | (?<![\w.])(?:127\.\d+|192\.168)\.\d+\.\d+(?![\w.]) | (?:@|//)(?:10|172)(?:\.\d{1,3}){3}
    | [\w.-]+@[\w.-]+:(?!\d+$)""",  # user@host:path
    re.VERBOSE | re.IGNORECASE,
)
# Control characters but line break and tab, surrogates, and marks that turn or hide text.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
MACHINE = re.compile(r"[A-Za-z0-9_]{1,16}")  # "x86_64"; a host's name would be of use there


def text_problems(entry: Entry) -> Problems:
    """Problems of every string of an entry, keys among them."""
    for place, part in walk(entry):
        if isinstance(part, str):
            for expected in faults(part):
                yield f"{place}: expected {expected}, got {part!r}"
    if not MACHINE.fullmatch(entry.provenance.machine):
        got = entry.provenance.machine
        yield f"/provenance/machine: expected a kind of processor such as 'x86_64', got {got!r}"


def faults(text: str) -> list[str]:
    """What a text should have been instead; empty for one that an entry may hold."""
    expected = {
        "no absolute path, home folder or file:// URL": PRIVATE,
        "no name or address of a private host": HOST,
        "no control or invisible character": HIDDEN,
    }
    return [wanted for wanted, found in expected.items() if found.search(text)]


def walk(part: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Every part of an entry with its JSON pointer, keys of mappings among them."""
    yield place, part
    if isinstance(part, Model):
        for name in type(part).model_fields:
            yield from walk(getattr(part, name), place + pointer(name))
    elif isinstance(part, dict):
        for key, value in part.items():
            yield place, key
            yield from walk(value, place + pointer(key))
    elif isinstance(part, tuple):
        for k, item in enumerate(part):
            yield from walk(item, place + pointer(k))
