"""Tables that a benchmark writes into a page, so that no figure is typed in."""

from __future__ import annotations

import re
from pathlib import Path


def write_table(page: Path, name: str, table: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text, n = re.subn(
        f"{start}.*?{end}",
        lambda _: f"{start}\n\n{table}\n\n{end}",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if n != 1:
        raise ValueError(f"{page} has no place for {name}: {start} ... {end}")
    page.write_text(text, encoding="utf-8")
