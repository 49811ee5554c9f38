"""Tables and answers of the studies, from their JSON files: a short table each, the rest as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evidence_tables
import numpy as np
import pandas as pd
from committed import points, study

from iaside_plugins.budgets import format_budget
from iaside_plugins.display.text import NOTHING, number, row_number
from iaside_plugins.leaderboard.studies import quantised, sensitivity, temperature
from iaside_plugins.leaderboard.studies import training as training_study
from iaside_plugins.leaderboard.studies.spectra import follows
from iaside_plugins.sensitivity.text import TITLES, level_text

STANDARD, ADVERSARIAL, PHOTOGRAPHS = "c10_resnet20", "c10_resnet2b_adv", "mcunet_5fps"
NETS = {
    STANDARD: "CIFAR-10, standard training",
    ADVERSARIAL: "CIFAR-10, adversarial training",
    PHOTOGRAPHS: "ImageNet, standard training",
}


def write(folder: Path) -> None:
    """Write `STUDY-short.csv`, which its page shows, and the long files it offers."""
    made = {
        "decomposition-short": decomposition_short(),
        "decomposition": pd.DataFrame(decomposition_rows()),
        "spectra-short": spectra_short(),
        "spectra-conditions": _spectra("conditions"),
        "spectra-bands": _spectra("bands"),
        "spectra-matches": _spectra("matches"),
        "sensitivity-short": sensitivity_short(),
        "sensitivity-variants": _sensitivity("variants"),
        "sensitivity-effects": _sensitivity("effects"),
        "attributions-short": attributions_short(),
        "attributions-agreement": _attributions("agreement"),
        "attributions-pairs": _attributions("pairs"),
        "attributions-profiles": _attributions("profiles"),
        "training-short": _frame(training_study.verdict_rows(study("training/training"))),
        "training-ends": _frame(training_study.end_rows(study("training/training"))),
        "training": pd.DataFrame(training_rows()),
        **evidence_tables.frames(),
        "quantised-short": quantised_short(),
        "quantised": pd.DataFrame(quantised_rows()),
        "temperature-short": temperature_short(),
    }
    for name, frame in made.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def facts() -> dict[str, str]:
    """Return the numbers that the pages name in their sentences, by the name used there."""
    noise = {name: study("decomposition/decomposition")[name]["groups"]["noise"] for name in NETS}
    high = {name: 100 * sum(one["bands"][4:]) for name, one in noise.items()}
    lost = {name: 100 * (one["perturbed"] - one["clean"]) for name, one in noise.items()}
    laws = spectra_short()
    names = {name.partition("--")[0] for name in study("decomposition/decomposition")}
    return {
        "n_networks": str(len(names)),
        "standard_noise": f"{lost[STANDARD]:.1f}",
        "standard_noise_high": f"{high[STANDARD]:.1f}",
        "adversarial_noise": f"{lost[ADVERSARIAL]:.1f}",
        "laws_32": str((laws["law at 32 pixels"] == "yes").sum()),
        "laws_224": str((laws["law at 224 pixels"] == "yes").sum()),
        "verdict": sensitivity.tables(study("sensitivity/sensitivity"))["verdict"],
        **quantised.facts(study("quantised/quantised")),
        **temperature.facts(study("temperature/temperature")),
        **evidence_tables.facts(),
        **{f"training_{k}": v for k, v in training_study.facts(study("training/training")).items()},
    }


def _frame(rows: list[list[str]]) -> pd.DataFrame:
    """Return rows, the first of which is the head."""
    return pd.DataFrame(rows[1:], columns=rows[0])


def training_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every net and record: what was measured, and nats of every band."""
    for run in study("training/training"):
        for record in run["records"] if run["images"] != training_study.TRIED else ():
            yield {
                **{key: run[key] for key in ("images", "share", "seed")},
                "step": record["step"],
                **{name: training_study.measure(record, name) for name in training_study.MEASURES},
                **{f"nats_{i}": value for i, value in enumerate(record["nats"])},
            }


def decomposition_short() -> pd.DataFrame:
    """Return points of error lost to the lower and to the upper half of the bands, by group."""
    rows = []
    for name, training in NETS.items():
        one = study("decomposition/decomposition")[name]
        row = {"network": name, "training": training}
        for group, split in one["groups"].items():
            low, high = 100 * np.array(split["bands"]).reshape(2, -1).sum(axis=1)
            row[f"{group}: low + high"] = f"{low:.1f} + {high:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def decomposition_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every network, condition and band: shares of images, with intervals."""
    for name, one in study("decomposition/decomposition").items():
        splits = {"mean of 15": one["mean"], **one["groups"], **one["corruptions"]}
        splits |= {f"{a['name']} {format_budget(a['level'])}": a for a in one["attacks"]}
        for condition, split in splits.items():
            bands = zip(split["bands"], split["interval"], strict=True)
            for band, (value, (low, high)) in enumerate(bands):
                yield {
                    "network": name,
                    "n_images": one["n_images"],
                    "condition": condition,
                    "clean_error": split["clean"],
                    "band": band,
                    "contribution": value,
                    "low": low,
                    "high": high,
                    "error": split["perturbed"],
                }


def spectra_short() -> pd.DataFrame:
    """Return slope and verdict of every corruption, on small images and on photographs."""
    data = study("spectra/spectra")
    frame: dict[str, list[str]] = {"corruption": []}
    for size, name in (("32 pixels", STANDARD), ("224 pixels", "images-8")):
        rows = [row for row in data[name]["conditions"] if row["kind"] == "corruption"]
        frame["corruption"] = [row["title"] for row in rows]
        frame[f"slope at {size}"] = [row_number(row, "slope", "+.2f") for row in rows]
        frame[f"law at {size}"] = ["yes" if follows(row) else "no" for row in rows]
    return pd.DataFrame(frame)


def sensitivity_short() -> pd.DataFrame:
    """Return what every choice does to the association and to the ranking of the models."""
    data = study("sensitivity/sensitivity")
    found = sensitivity.effects(data[sensitivity.CHOICE], data[sensitivity.DEFAULT])
    return pd.DataFrame(
        [
            {
                "choice": TITLES[effect["axis"]],
                "in place of the default": level_text(effect["level"]),
                "association": number(effect["association"]),
                "same ranking of models": number(effect["ranking"]),
            }
            for effect in found
        ]
    )


def attributions_short() -> pd.DataFrame:
    """Return how well each method ranks the bands as I-ASIDE does, on three networks."""
    columns = {}
    for name, training in NETS.items():
        data = study(f"attributions/{name}")
        titles = {row["method"]: row["title"] for row in data["agreement"]}
        columns[f"{name} ({training})"] = {
            titles[row["second"]]: row_number(row, "rank_correlation", "+.2f")
            for row in data["pairs"]
            if row["first"] == "iaside"
        }
    return pd.DataFrame(columns).rename_axis("method").reset_index()


def quantised_short() -> pd.DataFrame:
    """Return by network what 8 bits change, in points, on clean images and under corruptions."""
    rows = []
    for name, one in study("quantised/quantised").items():
        own, change = one["float"]["mean"], one["difference"]["8"]["mean"]
        clean, added = (f"{100 * own[part][0]:.1f}" for part in ("clean", "added"))
        low, high = (100 * change[half][0] for half in ("lower", "upper"))
        read = one.get("systematic")
        rows.append(
            {
                "network (images)": f"{name} ({one['n_images']})",
                "float: clean + added": f"{clean} + {added}",
                "clean error": points(change["clean"]),
                "error under corruptions": points(change["perturbed"]),
                "added (low + high)": f"{points(change['added'])} ({low:+.1f} {high:+.1f})",
                "added by other readings": NOTHING
                if read is None
                else points(read["difference"]["8"]["added"]),
            }
        )
    return pd.DataFrame(rows)


def quantised_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every network, bits, group of corruptions and part: shares of images."""
    for name, one in study("quantised/quantised").items():
        for bits, groups in one["difference"].items():
            for group, split in groups.items():
                bands = {f"band {k}": ends for k, ends in enumerate(split["bands"])}
                parts = {key: ends for key, ends in split.items() if key != "bands"}
                for part, (value, low, high) in (parts | bands).items():
                    yield {
                        "network": name,
                        "n_images": one["n_images"],
                        "bits": bits,
                        "condition": "mean of 15" if group == "mean" else group,
                        "part": part,
                        "difference": value,
                        "low": low,
                        "high": high,
                    }


def temperature_short() -> pd.DataFrame:
    """Return by network score and accuracy under attack at temperature 1 and at others."""
    rows = []
    for name, one in study("temperature/temperature").items():
        attack = one["attack"]
        starts = attack.get("n_left_starts")
        held = f"{attack['n_robust']} to {attack['n_left']}"
        beside = "" if starts is None else f" (after as many starts {starts})"
        rows.append(
            {
                "network": name,
                "fitted temperature": f"{one['fitted']:.2f}",
                "score at 1": number(*one["score"]["1"]),
                "at the fitted": number(*one["score"]["fitted"]),
                f"hold of {attack['n_images']}": f"{held}{beside}",
                "illusion": temperature.verdict(one),
            }
        )
    return pd.DataFrame(rows)


def _spectra(part: str) -> pd.DataFrame:
    """Return one list of every report as rows, with the name of the report."""
    data = study("spectra/spectra")
    return pd.DataFrame(
        [{"report": name, **row} for name, one in data.items() for row in one[part]]
    )


def _sensitivity(part: str) -> pd.DataFrame:
    data = study("sensitivity/sensitivity")
    rows = [{"population": name, **row} for name, one in data.items() for row in one[part]]
    return pd.json_normalize(rows)


def _attributions(part: str) -> pd.DataFrame:
    return pd.DataFrame(
        [{"network": name, **row} for name in NETS for row in study(f"attributions/{name}")[part]]
    )
