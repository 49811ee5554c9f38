"""One HTML file that needs no other file, no network and no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from iaside_plugins.errors import MissingExtraError
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.table import formatting as fmt

try:
    import jinja2
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtraError.of("the board's pages need jinja2", "leaderboard") from error

FOLDER = Path(__file__).resolve().parent / "templates"


def render(
    template: str,
    board: Board,
    *,
    here: str,
    scripts: Sequence[str] = (),
    **context: Any,
) -> str:
    """Return a page; its Content-Security-Policy allows only its own style and script.

    Args:
        template: Name of the file in `FOLDER`.
        board: What all pages name: title, links, date.
        here: Name of the page's file in the board's folder.
        scripts: Names of files in `FOLDER`, in the order of their use.
        context: Of the template; all text is escaped.
    """
    style = _spare((FOLDER / "site.css").read_text(encoding="utf-8"))
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in scripts)
    script = f'"use strict";(()=>{{\n{_spare(script)}\n}})();' if scripts else ""
    return (
        _environment()
        .get_template(template)
        .render(
            settings=board.settings,
            here=here,
            home="../" * here.count("/"),
            updated=max((entry.provenance.date[:10] for entry in board.entries), default=""),
            style=Markup(style),
            script=Markup(script),
            style_hash=_digest(style),
            script_hash=_digest(script),
            fmt=fmt,
            **context,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _spare(text: str) -> str:
    """Return a style or script without indentation, blank lines and comment lines."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
