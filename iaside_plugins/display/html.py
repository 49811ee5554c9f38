"""Results in a notebook: a line and a small table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def html_table(title: str, frame: pd.DataFrame) -> str:
    """Return a title and a table as HTML; numbers have four significant digits.

    Args:
        title: Plain text.
        frame: The table, without its index.
    """
    table = frame.to_html(index=False, float_format="{:.4g}".format, na_rep="–", border=0)
    return f"<p>{escape(title)}</p>\n{table}"
