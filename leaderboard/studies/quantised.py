"""Networks of 8-bit integers beside the float networks they were made from.

``python -m iaside_plugins.leaderboard.studies.quantised FOLDER`` reads what the target `quantised`
of `leaderboard/entries.mk` wrote into quantised.json, where networks of other folders stay; without
it draws the figure from quantised.json again. The criteria are those of
`docs/studies/quantised.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.display.plots import counted, new_figure, titled
from iaside_plugins.display.style import FAINT, LABEL
from iaside_plugins.leaderboard.studies.criteria import NOT_SHOWN, SHOWN
from iaside_plugins.leaderboard.studies.measured import networks, run
from iaside_plugins.leaderboard.studies.page import draw_kind, refresh, short_name
from iaside_plugins.leaderboard.studies.verdicts import side
from iaside_plugins.storage.files import rounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / "quantised"
DIGITS = 5  # significant ones that quantised.json keeps
PARTS = {
    "clean": "clean error",
    "perturbed": "error under corruptions",
    "added": "added by corruptions",
    "lower": "of it, lower half",
    "upper": "of it, upper half",
}
BITS = {"8": "8 bits less float", "4": "weights of 4 bits less float"}


def condense(folder: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what was measured below a folder, and what was known, see `networks`."""
    out: dict[str, Any] = rounded(networks(folder / "quantised", known), DIGITS)
    return out


def moved(nets: Mapping[str, Any], bits: str = "8", part: str = "added") -> dict[str, int]:
    """Return of which networks the bits change what corruptions add, and to which side.

    Args:
        nets: The networks.
        bits: Of the weights.
        part: What is changed, one of `PARTS`.
    """
    sides = {
        name: side(one["difference"][bits]["mean"][part])
        for name, one in nets.items()
        if bits in one["difference"]
    }
    return {name: found for name, found in sides.items() if found}


def outcomes(nets: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the criteria with how many networks meet them, and the verdict."""
    found, control = moved(nets), moved(nets, "4")
    shown = 0 < len(nets) <= 2 * len(found)
    rows = [("quantisation moves robustness", len(found), len(nets), shown)]
    for half in ("upper", "lower"):
        there = [
            name
            for name, one in found.items()
            if side(nets[name]["difference"]["8"]["mean"][half]) == one
        ]
        holds = shown and len(there) == len(found)
        rows.append((f"in the {half} bands, of those moved", len(there), len(found), holds))
    read = {n: one["systematic"] for n, one in nets.items() if "systematic" in one}
    there = [n for n, one in read.items() if side(one["difference"]["8"]["added"])]
    holds = 0 < len(read) == len(there)
    rows.append(("systematic noise moves with it", len(there), len(read), holds))
    n_control = sum("4" in one["difference"] for one in nets.values())
    rows.append(("control: weights of 4 bits move it", len(control), n_control, bool(control)))
    return [
        {
            "criterion": what,
            "networks": f"{n} of {n_of}",
            "verdict": SHOWN if holds else NOT_SHOWN,
        }
        for what, n, n_of, holds in rows
    ]


def answer(nets: Mapping[str, Any]) -> str:
    """Return the answer in a few sentences."""
    found, verdict = moved(nets), outcomes(nets)[0]["verdict"]
    text = (
        f"That 8 bits change what corruptions add to the error is *{verdict}*: the interval "
        f"excludes 0 for {len(found)} of {len(nets)} networks ({_spread(nets, 'added')})."
    )
    if found:
        halves = [
            f"{short_name(name)} ({100 * one['lower'][0]:+.1f} in the lower half of the bands, "
            f"{100 * one['upper'][0]:+.1f} in the upper)"
            for name in found
            for one in [nets[name]["difference"]["8"]["mean"]]
        ]
        text += f" Moved: {', '.join(halves)}."
    rises = [
        one["difference"]["4"]["mean"]["clean"][0]
        for one in nets.values()
        if "4" in one["difference"]
    ]
    if rises and not moved(nets, "4"):
        text += (
            " Nor do weights of 4 bits show in it, though they raise the clean error by up to "
            f"{100 * max(rises):.0f} points: by our own rule this says little."
        )
    return text


def _spread(nets: Mapping[str, Any], part: str) -> str:
    """Return the least and greatest difference of 8 bits in points, and the widest interval."""
    ends = np.array([one["difference"]["8"]["mean"][part] for one in nets.values()]) * 100
    widest = float((ends[:, 2] - ends[:, 1]).max() / 2)
    least, most = ends[:, 0].min(), ends[:, 0].max()
    return f"{least:+.1f} to {most:+.1f} points, each known to within {widest:.1f}"


def facts(nets: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page names in its sentences, by the name used there."""
    rows = [f"{o['criterion']}: {o['networks']}, *{o['verdict']}*" for o in outcomes(nets)]
    return {
        "quantised_answer": answer(nets),
        "quantised_outcomes": "; ".join(rows),
        "quantised_errors": f"{_spread(nets, 'perturbed')} (interval excludes 0: "
        f"{_named(nets, '8')}; with weights of 4 bits: {_named(nets, '4')})",
    }


def _named(nets: Mapping[str, Any], bits: str) -> str:
    """Return the networks whose error under corruptions the bits change."""
    return ", ".join(map(short_name, moved(nets, bits, "perturbed"))) or "none"


def quantised_figure(nets: Mapping[str, Any]) -> Figure:
    """Draw by network how the clean error, and what corruptions add by half, differ from float."""
    figure, axes = new_figure(13, 1.9 + 0.4 * len(nets), columns=len(PARTS), shared=False)
    nothing = [np.nan] * 3
    for k, (ax, (part, title)) in enumerate(zip(axes, PARTS.items(), strict=True)):
        for j, (bits, label) in enumerate(BITS.items()):
            found = [one["difference"].get(bits) for one in nets.values()]
            values = 100 * np.array([one["mean"][part] if one else nothing for one in found])
            draw_kind(ax, values, j, label)
        ax.axvline(0, color=FAINT, linewidth=1, zorder=0)
        ax.set_title(title, fontsize=LABEL)
        ax.set_xlabel("points of error")
        ax.set_yticks(range(len(nets)), [short_name(name) for name in nets] if k == 0 else [])
        ax.invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    n_images = counted(one["n_images"] for one in nets.values())
    title = "Quantised less float, 15 corruptions at severity 3"
    figure.suptitle(titled(title, n_images, "95 % intervals"))
    return figure


def main(folders: Iterable[str]) -> None:
    """Take new files in, if a folder is given, and draw the figure."""
    refresh(FOLDER / "quantised.json", folders, condense, quantised_figure, indent=None)


if __name__ == "__main__":
    run(main)
