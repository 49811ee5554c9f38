"""The page of `decomposition/`: whose errors come from which bands, of many networks.

``python -m iaside_plugins.leaderboard.studies.decomposition RESULT.npz ...`` takes what
`iaside explain --save` wrote, each file named after its network, into decomposition.json; without
files it builds page and figure from decomposition.json again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS, CORRUPTIONS
from iaside_plugins.decomposition.contributions import Contributions, Split
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.sentences import conclusion
from iaside_plugins.display.plots import counted, new_figure, save_figure, titled
from iaside_plugins.display.text import markdown_table, rounded_to_sum
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import draw_by_band, fill_blocks
from iaside_plugins.storage.files import read_json, rounded, write_atomic, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / "decomposition"
DIGITS = 6  # significant ones that decomposition.json keeps
GROUPS = ("noise", "blur", "weather", "digital")
SAID = ("c10_resnet20", "c10_resnet2b_adv")  # whose sentences the page shows
CHOICES = {"4": "4 bands", "12": "12 bands", "round": "8 round bands"}  # of file names a--CHOICE


def condense(results: Iterable[tuple[str, ErrorDecomposition]]) -> dict[str, Any]:
    """Return what the page needs of decompositions, by the name of the network."""
    out = {}
    for name, result in results:
        game = result.error
        names = [one.name for one in game.mean_conditions]
        groups = {
            group: sorted({n for n in names if CORRUPTION_GROUPS[n] == group}) for group in GROUPS
        }
        attacked = [one for one in game.conditions if one.name not in CORRUPTIONS]
        out[name] = {
            "n_images": result.n_images,
            "protocol": result.protocol.to_dict(),
            "image_size": list(result.image_size),
            "n_forward": result.n_forward,
            "levels": sorted({one.level or 0.0 for one in game.mean_conditions}),
            "mean": _split(game.over(game.mean_conditions)),
            "corruptions": {n: _split(game.over([n])) for n in dict.fromkeys(names)},
            "groups": {g: _split(game.over(some)) for g, some in groups.items() if some},
            "attacks": [
                {"name": c.name, "level": c.level} | _split(game.over([c])) for c in attacked
            ],
            "peak": _peaks(game),
            "conclusion": conclusion(result),
        }
    found: dict[str, Any] = rounded(out, DIGITS, exact=("level",))
    return found


def _split(split: Split) -> dict[str, Any]:
    return {
        "clean": float(split.clean.value),
        "bands": split.bands.value.tolist(),
        "interval": split.bands.interval.tolist(),
        "perturbed": float(split.perturbed.value),
    }


def _peaks(game: Contributions) -> dict[str, float]:
    """Return the mean place of what each group costs, from 0 (lowest band) to 1 (highest).

    Of groups whose cost has an interval above 0.
    """
    out = {}
    for group in GROUPS:
        names = [c.name for c in game.mean_conditions if CORRUPTION_GROUPS[c.name] == group]
        if not names:
            continue
        split = game.over(sorted(set(names)))
        if split.added.interval[0] > 0:
            place = np.arange(len(split.bands.value)) / (len(split.bands.value) - 1)
            out[group] = float(split.bands.value @ place / split.bands.value.sum())
    return out


def tables(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the page's tables in Markdown, by name."""
    nets = {name: one for name, one in data.items() if "--" not in name}
    return {
        "nets": _net_table({name: one["mean"] for name, one in nets.items()}, nets),
        "groups": _group_table(nets),
        "attacks": _attack_table(nets),
        "said": "\n".join(
            f"\n**{name}**\n\n" + "\n".join(f"- {one}" for one in nets[name]["conclusion"])
            for name in SAID
            if name in nets
        ).strip(),
        "choices": _choice_table(data),
    }


def page(text: str, data: Mapping[str, Any]) -> str:
    """Return the page with its tables filled in."""
    return fill_blocks(text, tables(data))


def _row(split: Mapping[str, Any]) -> list[str]:
    """Return clean error, bands and error in points that add up as shown."""
    shown = rounded_to_sum(split["clean"], split["bands"], split["perturbed"])
    return [f"{value:.1f}" for value in shown]


def _net_table(splits: Mapping[str, Any], nets: Mapping[str, Any]) -> str:
    rows = [["network", "images", "clean", *map(str, range(8)), "error"]]
    order = sorted(splits, key=lambda name: (nets[name]["image_size"][0], name))
    rows += [[name, str(nets[name]["n_images"]), *_row(splits[name])] for name in order]
    return markdown_table(rows)


def _group_table(nets: Mapping[str, Any]) -> str:
    """Return the points of error of each network and group, below and above the middle band."""
    rows = [["network", *(f"{group}: low + high" for group in GROUPS)]]
    for name, one in sorted(nets.items()):
        halves = {
            group: np.array(split["bands"]).reshape(2, -1).sum(axis=1) * 100
            for group, split in one["groups"].items()
        }
        rows.append([name, *(f"{low:.1f} + {high:.1f}" for low, high in halves.values())])
    return markdown_table(rows)


def _attack_table(nets: Mapping[str, Any]) -> str:
    rows = [["network", "attack", "clean", *map(str, range(8)), "error"]]
    for name, one in sorted(nets.items()):
        rows += [
            [name, f"{attack['name']} {format_budget(attack['level'])}", *_row(attack)]
            for attack in one["attacks"]
        ]
    return markdown_table(rows)


def _choice_table(data: Mapping[str, Any]) -> str:
    """Return the mean's split by quarters of the frequencies under other partitions."""
    rows = [["network", "partition", "lowest quarter", "second", "third", "highest quarter"]]
    for name in SAID:
        for key in (name, *(f"{name}--{choice}" for choice in CHOICES)):
            if key not in data:
                continue
            bands = data[key]["mean"]["bands"]
            quarter = len(bands) // 4
            sums = [100 * sum(bands[k * quarter : (k + 1) * quarter]) for k in range(4)]
            what = CHOICES.get(key.partition("--")[2], "8 square bands")
            rows.append([name, what, *(f"{value:.1f}" for value in sums)])
    return markdown_table(rows)


def decomposition_figure(data: Mapping[str, Any]) -> Figure:
    """Draw what each group of corruptions costs every network by band; white is 0."""
    nets = {
        n: one for n, one in sorted(data.items()) if "--" not in n and one["image_size"][0] == 32
    }
    figure, axes = new_figure(11, 1 + 0.24 * len(nets), columns=len(GROUPS), shared=False)
    values = {
        group: 100 * np.array([one["groups"][group]["bands"] for one in nets.values()])
        for group in GROUPS
    }
    draw_by_band(figure, axes, values, list(nets), "points of error")
    n_images = counted(one["n_images"] for one in nets.values())
    protocols = dict.fromkeys(one["protocol"]["protocol_id"] for one in nets.values())
    title = f"What corruptions cost {len(nets)} networks, split over bands"
    figure.suptitle(titled(title, n_images, *protocols))
    return figure


def main(files: list[str]) -> None:
    """Take new results in, if there are any, and build page and figure."""
    source = FOLDER / "decomposition.json"
    if files:
        results = ((Path(file).stem, ErrorDecomposition.load(file)) for file in files)
        write_json(source, condense(results))
    data = read_json(source)
    readme = FOLDER / "README.md"
    write_atomic(readme, page(readme.read_text(encoding="utf-8"), data).encode())
    save_figure(decomposition_figure(data), FOLDER / "decomposition.png")


if __name__ == "__main__":
    run(main)
