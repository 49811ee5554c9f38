"""The figure of `attributions/` from its JSON files.

``python -m iaside_plugins.leaderboard.studies.attributions`` draws what the last
`iaside compare --plot` of that page drew.
"""

from __future__ import annotations

from pathlib import Path

from iaside_plugins.attributions.agreement import AgreementReport, by_model
from iaside_plugins.attributions.plots import plot_agreement
from iaside_plugins.display.plots import save_figure

FOLDER = Path(__file__).resolve().parents[1] / "attributions"


def build(folder: Path = FOLDER) -> None:
    """Write profiles.png of a folder."""
    reports = map(AgreementReport.load, sorted(folder.glob("*.json")))
    save_figure(plot_agreement(by_model(reports)), folder / "profiles.png")


if __name__ == "__main__":
    build()
