"""RobustBench's tables of accuracies per corruption and severity: read them, put a row in.

A table has two header rows (corruption, severity 1 to 5), then one row per model: its name and
its accuracy in each cell.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.errors import InputError, error_text
from iaside_plugins.storage.files import write_atomic

Cells = Mapping[tuple[str, int], float]
"""(corruption, severity) -> accuracy in [0, 1]."""


def read_table(file: Path) -> Any:
    """Return a table as a frame with columns (corruption, severity).

    Of several rows of one name the last counts: RobustBench appends a second row when a model is
    run again, and with two rows of AlexNet it silently changes the mCE of every model.

    Raises:
        InputError: The file is not such a table.
    """
    import pandas as pd

    try:
        table: Any = pd.read_csv(file, header=[0, 1], index_col=0, dtype=str)
        table.columns = pd.MultiIndex.from_tuples(
            [(str(corruption), int(severity)) for corruption, severity in table.columns]
        )
        table = table.astype(float)  # from text, since pandas' own parser may round the last digit
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{file} is not a table of RobustBench (two header rows, corruption and severity): "
            f"{error_text(error)}"
        ) from error
    return table[~table.index.duplicated(keep="last")]


def read_errors(file: Path, model: str) -> dict[str, list[float]]:
    """Return the error rates of one model at severities 1 to 5 of every corruption of a table.

    Raises:
        InputError: The model has no row, or its row lacks a severity.
    """
    table = read_table(file)
    if model not in table.index:
        names = ", ".join(map(str, table.index[:5]))
        raise InputError(
            f"{file} has no row {model}, so there is nothing to divide by; it has {names or 'none'}"
        )
    row = table.loc[model]
    errors: dict[str, list[float]] = {}
    for corruption in dict.fromkeys(str(name) for name, _ in table.columns):
        rates = [1 - float(row.get((corruption, s), float("nan"))) for s in SEVERITIES]
        if any(rate != rate for rate in rates):
            raise InputError(f"{file}: the row {model} lacks a severity of {corruption}")
        errors[corruption] = rates
    return errors


def upsert(file: Path, model: str, cells: Cells, corruptions: Sequence[str]) -> None:
    """Put a model's row into a table: instead of its earlier row, else below the others.

    The file is written as a whole or not at all, and the same call twice leaves the same bytes. A
    column that the table lacks is added, empty for the other models.

    Args:
        file: The table; made if it does not exist.
        model: Name of the row.
        cells: Accuracies of the row.
        corruptions: Order of the columns of a new table.

    Raises:
        InputError: The file is not such a table, or cannot be written.
    """
    import pandas as pd

    order = [(name, severity) for name in corruptions for severity in SEVERITIES]
    columns = pd.MultiIndex.from_tuples(order)
    table: Any = read_table(file) if file.is_file() else pd.DataFrame(columns=columns, dtype=float)
    absent = [cell for cell in order if cell not in set(table.columns)]
    for cell in absent:
        table[cell] = float("nan")
    table.columns = pd.MultiIndex.from_tuples(list(table.columns))
    table.loc[model, :] = [cells.get(cell, float("nan")) for cell in table.columns]
    with io.StringIO(newline="") as text:
        table.to_csv(text, lineterminator="\n")
        write_atomic(file, text.getvalue().encode())
