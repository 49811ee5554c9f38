"""Runs the notebooks: ``python docs/_ext/notebooks.py`` writes their outputs anew.

The tests run them too, and compare nothing: last digits differ between processors.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbclient
import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LIMIT_S = 120
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def run(path: Path, before: str = "") -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run of all its cells.

    Args:
        path: Of the notebook.
        before: Code that its kernel runs first.

    Raises:
        CellExecutionError: A cell raised an error.
        CellTimeoutError: A cell took longer than `LIMIT_S`.
    """
    notebook = nbformat.read(path, as_version=4)
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    client = nbclient.NotebookClient(
        notebook,
        timeout=LIMIT_S,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
    )
    client.create_kernel_manager().transport = "ipc"  # no port of the machine
    client.execute()
    return notebook


def main(paths: list[str]) -> None:
    """Run the notebooks given, or all of them, and write them back."""
    for path in map(Path, paths) if paths else sorted(FOLDER.glob("*.ipynb")):
        notebook = run(path)
        for cell in notebook.cells:  # warnings name folders of this machine
            cell.get("outputs", [])[:] = [
                output for output in cell.get("outputs", []) if output.get("name") != "stderr"
            ]
        notebook.metadata = METADATA
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
