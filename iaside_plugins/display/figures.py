"""Figures and axes in the one style of all plots, which a notebook shows though pyplot has no part.

Imported where a figure is made, and nowhere else: matplotlib is optional and slow to import.
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib import rc_context  # noqa: TID253
from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.rcsetup import cycler  # noqa: TID253

from iaside_plugins.display.style import COLOURS, LABEL, LINE, SMALL, TITLE

STYLE: Any = {
    "axes.labelsize": LABEL,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
}


class NotebookFigure(Figure):
    """A figure that shows itself as PNG as the last value of a notebook's cell."""

    def suptitle(self, t: str, **options: Any) -> Any:
        """Add a title in the size of all titles; a name in it is no formula."""
        return super().suptitle(t, **{"fontsize": TITLE, "parse_math": False, **options})

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as file:
            self.savefig(file, format="png", dpi=100)
            return file.getvalue()


class NotebookAxes(Axes):
    """Axes that show their whole figure as the last value of a notebook's cell."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make axes of the style."""
        with rc_context(STYLE):
            super().__init__(*arguments, **options)
        self.tick_params(labelsize=SMALL, color=LINE)

    def set_title(self, label: str, *arguments: Any, **options: Any) -> Any:
        """Add a title in the size of all titles."""
        return super().set_title(label, *arguments, **{"fontsize": TITLE, **options})

    def legend(self, *arguments: Any, **options: Any) -> Any:
        """Draw a legend without a frame."""
        return super().legend(*arguments, **{"frameon": False, "fontsize": SMALL, **options})

    def _repr_png_(self) -> Any:
        figure = self.get_figure(root=True)
        return figure._repr_png_() if isinstance(figure, NotebookFigure) else None
