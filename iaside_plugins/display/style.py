"""How plots look: sizes of text, and colours; the colour-blind tell apart the first four models.

The colours of models are those of the board's page (``--f0`` to ``--f7`` of its style sheet).
"""

from __future__ import annotations

TITLE, LABEL, SMALL = 10, 9, 8  # points: titles; axes; ticks, legends and notes
COLOURS = (  # of models, in order; each at least 3:1 on white
    "#0067a8",
    "#b04a00",
    "#00754a",
    "#94317f",
    "#7a6200",
    "#b3203a",
    "#4a4ab8",
    "#5a5a62",
)
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # beside the colours, for whom they look alike
COSTS, HELPS = "#b2182b", "#2166ac"  # what adds to the error, and what takes from it
DIVERGING = "RdBu_r"  # white at 0, between these two
LINE, FAINT = "0.35", "0.7"  # axes and edges; lines of reference
