"""Figures and axes that a notebook shows, though they were made without pyplot.

Imported where a figure is made, and nowhere else: matplotlib is optional and slow to import.
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253


class NotebookFigure(Figure):
    """A figure that shows itself as PNG as the last value of a notebook's cell."""

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as file:
            self.savefig(file, format="png", dpi=100)
            return file.getvalue()


class NotebookAxes(Axes):
    """Axes that show their whole figure as the last value of a notebook's cell."""

    def _repr_png_(self) -> Any:
        figure = self.get_figure(root=True)
        return figure._repr_png_() if isinstance(figure, NotebookFigure) else None
