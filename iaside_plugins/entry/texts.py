"""Texts of an entry: nothing private, nothing hidden, nothing that looks like something else."""

from __future__ import annotations

import re
import unicodedata

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
# Control, format, private, unassigned and surrogate characters; any blank but the space.
HIDDEN_KINDS = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp", "Zs")
# Of other kinds, and drawn as nothing: fillers of Hangul, the joiner and the selectors of variants,
# the empty Braille cell, vowels of Khmer without a shape.
HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
LINES = re.compile(r"[\n\t]")
# Cyrillic and Greek letters with the shape of Latin ones (Unicode's confusables, the plain ones).
TWINS = "АВЕЅІЈКМНОРСТУХаеорсухѕіјԁԛԝһ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧΥονι"
WORD = re.compile(r"[\w.-]+")
RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?|.*\.")
LONGEST = 2000  # characters of any text


def faults(text: str, *, lines: bool = True) -> list[str]:
    """Return what a text should have been instead; empty if an entry may hold it.

    Args:
        text: Of an entry.
        lines: Whether it may have line breaks and tabs, as notes have and names have not.
    """
    if len(text) > LONGEST:  # patterns would take long, and the schema allows no more
        return [f"at most {LONGEST} characters"]
    hidden = _is_hidden(text, lines)
    expected = {
        "no absolute path, home folder or file:// URL": bool(PRIVATE.search(text)),
        "no name or address of a private host": bool(HOST.search(text)),
        "no control or invisible character": hidden,
        "text that is not blank": not hidden and not text.strip(),
        "no blank at an end and no two in a row": not (hidden or lines)
        and text.strip()
        and text != " ".join(text.split()),
        "accents in one character with their letter (Unicode's NFC)": text
        != unicodedata.normalize("NFC", text),
        "no Cyrillic or Greek letter that looks like a Latin one": any(
            map(_is_mixed, WORD.findall(text))
        ),
    }
    return [wanted for wanted, found in expected.items() if found]


def _is_mixed(word: str) -> bool:
    letters = set(word)
    return not letters.isdisjoint(TWINS) and any(c.isascii() and c.isalpha() for c in letters)


def _is_hidden(text: str, lines: bool) -> bool:
    plain = LINES.sub(" ", text) if lines else text
    return bool(HIDDEN.search(text)) or any(
        letter != " " and unicodedata.category(letter) in HIDDEN_KINDS for letter in plain
    )
