"""The page of `training/`: bands by training time and by share of wrong labels, of small nets.

``python -m iaside_plugins.leaderboard.studies.training RUN.json ...`` takes what
``tests/bench/training_study.py`` wrote into training.json; without files it builds page and figure
from training.json again. What is judged, and how, was committed first: `training/CRITERION.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.plots import new_figure, save_figure
from iaside_plugins.display.style import COLOURS, DIVERGING, FAINT, LABEL, MARKS, SMALL
from iaside_plugins.display.text import markdown_table, number
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import fill_blocks
from iaside_plugins.storage.files import read_json, rounded, write_atomic, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
Records = list[dict[str, Any]]
FOLDER = Path(__file__).resolve().parents[1] / "training"
DIGITS = 5  # significant ones that training.json keeps
MAIN, CHECK = "repeated", "bilinear"  # how the images were enlarged
TRIED = "cifar10"  # the run that only says whether its images suffice
STEPS_AN_EPOCH = 11
# The numbers of `training/CRITERION.md`.
LEAST_NATS, LEAST_ACCURACY = 0.1, 0.5
MEASURES = {  # of a record: title, unit's factor, format
    "test_accuracy": ("test accuracy", 1, ".2f"),
    "train_accuracy": ("accuracy on the labels trained with", 1, ".2f"),
    "upper_share": ("share of nats in bands 4-7", 1, ".2f"),
    "signed_score": ("signed score", 1, "+.2f"),
    "nats_lower": ("nats in bands 0-3", 1, "+.2f"),
    "nats_upper": ("nats in bands 4-7", 1, "+.2f"),
    "noise": ("points lost to noise", 100, ".1f"),
    "noise_upper": ("in bands 4-7", 100, ".1f"),
    "blur": ("points lost to blur", 100, ".1f"),
    "contrast": ("points lost to contrast", 100, ".1f"),
}
DECOMPOSED = ("noise", "blur", "contrast")


def condense(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return runs in order, rounded.

    Raises:
        InputError: For something other than runs of the study.
    """
    try:
        ordered = sorted(runs, key=lambda run: (run["images"], run["share"], run["seed"]))
        out = [{k: run[k] for k in ("images", "share", "seed", "records")} for run in ordered]
    except (KeyError, TypeError) as error:
        raise InputError(f"expected runs of training_study.py: {error}") from error
    found: list[dict[str, Any]] = rounded(out, DIGITS)
    return found


def upper_share(nats: npt.ArrayLike) -> float:
    """Return the upper half's share of a profile's nats; NaN where all bands hold too few."""
    bands = np.asarray(nats, dtype=np.float64)
    total = bands.sum()
    return float(bands[len(bands) // 2 :].sum() / total) if total >= LEAST_NATS else float("nan")


def measure(record: Mapping[str, Any], name: str) -> float:
    """Return one of `MEASURES` of a record; NaN where it was not computed."""
    if name == "upper_share":
        return upper_share(record["nats"])
    if name in record:
        return float(record[name])
    what, _, half = name.partition("_")
    if what != "nats" and what not in record["split"]:
        return float("nan")
    bands = np.array(record["nats"] if what == "nats" else record["split"][what]["bands"])
    lower, upper = bands.reshape(2, -1).sum(axis=1)
    return float({"lower": lower, "upper": upper, "": lower + upper}[half])


@dataclass(frozen=True)
class Answer:
    """A mean over seeds, with its interval.

    Attributes:
        mean: The mean; NaN if a seed lacks its value.
        low: Lower end of the 95 % interval, Student's t over the seeds.
        high: Upper end.
        n_missing: Seeds whose value could not be computed.
        n: Seeds.
    """

    mean: float
    low: float
    high: float
    n_missing: int
    n: int

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Answer:
        """Return that of one value a seed."""
        from scipy import stats

        v = np.asarray(values, dtype=np.float64)
        mean = float(v.mean())
        half = float(stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)))
        return cls(mean, mean - half, mean + half, int(np.isnan(v).sum()), len(v))

    @property
    def side(self) -> int:
        """1 where the interval lies above 0, -1 where below, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def text(self, spec: str, factor: float = 1) -> str:
        """Return the mean with its interval, or for how many seeds there is no value."""
        if self.n_missing:
            return f"none for {self.n_missing} of {self.n} seeds"
        return number(*(factor * x for x in (self.mean, self.low, self.high)), spec=spec)


def runs_of(data: Iterable[Mapping[str, Any]], images: str, share: float) -> list[Records]:
    """Return the records of one share of wrong labels, a list a seed."""
    return [r["records"] for r in data if r["images"] == images and r["share"] == share]


def shares_of(data: Iterable[Mapping[str, Any]], images: str = MAIN) -> list[float]:
    """Return the shares of wrong labels that there are."""
    return sorted({run["share"] for run in data if run["images"] == images})


def first_able(records: Records, least_nats: float = -np.inf) -> dict[str, Any]:
    """Return the first record whose test accuracy is enough, and the nats of all bands.

    Raises:
        InputError: If there is none.
    """
    for record in records:
        if record["test_accuracy"] >= LEAST_ACCURACY and sum(record["nats"]) >= least_nats:
            return record
    raise InputError(f"no record has a test accuracy of {LEAST_ACCURACY:g}")


def change_in_time(
    data: list[dict[str, Any]], name: str, images: str = MAIN, least_nats: float = -np.inf
) -> Answer:
    """Return the last record's value less that of the first able one, without wrong labels."""
    return Answer.of(
        [
            measure(records[-1], name) - measure(first_able(records, least_nats), name)
            for records in runs_of(data, images, 0.0)
        ]
    )


def slope(data: list[dict[str, Any]], name: str, images: str = MAIN, most: float = 1.0) -> Answer:
    """Return the slope of a measure of the last record over shares of wrong labels up to one."""
    shares = [share for share in shares_of(data, images) if share <= most]
    values = [
        [measure(records[-1], name) for records in runs_of(data, images, share)] for share in shares
    ]
    return Answer.of(np.polyfit(shares, np.array(values), 1)[0])


def answers(data: list[dict[str, Any]]) -> dict[str, Answer]:
    """Return every interval that is judged, and those of the check."""
    return {
        "low bands first": change_in_time(data, "upper_share"),
        "wrong labels, upper share": slope(data, "upper_share"),
        "wrong labels, signed score": slope(data, "signed_score"),
        "wrong labels, noise": slope(data, "noise_upper"),
        "check: low bands first": change_in_time(data, "upper_share", CHECK),
        "check: wrong labels, upper share": slope(data, "upper_share", CHECK),
    }


def verdicts(found: Mapping[str, Answer]) -> dict[str, str]:
    """Return what the criterion says of each question."""
    share, score = (found[f"wrong labels, {name}"] for name in ("upper share", "signed score"))
    up = (share.side, -score.side)
    second = {2: "yes", -2: "the contrary"}.get(sum(up), "not shown")
    if sorted(up) == [0, 1] and not share.n_missing:
        second = "partly"
    out = {
        "low bands first": _said(found["low bands first"]),
        "evidence moves up": second,
        "errors under noise move up": _said(found["wrong labels, noise"]),
    }
    for question, name in (
        ("low bands first", "low bands first"),
        ("evidence moves up", "wrong labels, upper share"),
    ):
        is_up = out[question] in ("yes", "partly") and found[name].side > 0
        if is_up and found[f"check: {name}"].mean < 0:
            out[question] += ", but not robust to the enlargement"
    return out


def _said(found: Answer) -> str:
    return {1: "yes", -1: "the contrary", 0: "not shown"}[found.side]


def tables(data: list[dict[str, Any]]) -> dict[str, str]:
    """Return the page's tables in Markdown, by name."""
    return {
        "verdicts": markdown_table(verdict_rows(data)),
        "afterwards": markdown_table(afterwards_rows(data)),
        "ends": markdown_table(end_rows(data)),
        "check": markdown_table(end_rows(data, CHECK)),
        "times": markdown_table(_time_rows(data)),
    }


def verdict_rows(data: list[dict[str, Any]]) -> list[list[str]]:
    """Return question, what is measured, its mean and interval, and what is said."""
    found = answers(data)
    said = verdicts(found)
    moved = said["evidence moves up"]
    a_share = "change of the upper share, from the first able record to the last"
    return [
        ["question", "measured", "mean and 95 % interval", "answer"],
        [
            "low bands first?",
            a_share,
            found["low bands first"].text("+.3f"),
            said["low bands first"],
        ],
        [
            "do wrong labels move evidence up?",
            "slope of the upper share",
            found["wrong labels, upper share"].text("+.3f"),
            moved,
        ],
        ["", "slope of the signed score", found["wrong labels, signed score"].text("+.2f"), ""],
        [
            "do wrong labels move errors under noise up?",
            "slope of the points in bands 4-7",
            found["wrong labels, noise"].text("+.1f", 100),
            said["errors under noise move up"],
        ],
        ["check, smooth images", a_share, found["check: low bands first"].text("+.3f"), ""],
        [
            "check, smooth images",
            "slope of the upper share",
            found["check: wrong labels, upper share"].text("+.3f"),
            "",
        ],
    ]


def afterwards_rows(data: list[dict[str, Any]]) -> list[list[str]]:
    """Return what was chosen after the results were seen, and is judged by nothing."""
    found = [
        (
            "change of the upper share without wrong labels, from the first able record with "
            f"{LEAST_NATS:g} nats on",
            change_in_time(data, "upper_share", least_nats=LEAST_NATS).text("+.3f"),
        ),
        (
            "the same with smooth images",
            change_in_time(data, "upper_share", CHECK, LEAST_NATS).text("+.3f"),
        ),
        (
            "change of the signed score without wrong labels, from the first able record on",
            change_in_time(data, "signed_score").text("+.2f"),
        ),
        (
            "slope of the upper share up to 40 % wrong labels",
            slope(data, "upper_share", most=0.4).text("+.3f"),
        ),
        ("slope of the nats in bands 0-3", slope(data, "nats_lower").text("+.2f")),
        ("slope of the nats in bands 4-7", slope(data, "nats_upper").text("+.2f")),
    ]
    return [["measured", "mean and 95 % interval"], *map(list, found)]


def end_rows(data: list[dict[str, Any]], images: str = MAIN) -> list[list[str]]:
    """Return the measures of the last record by share of wrong labels."""
    names = [name for name in MEASURES if images == MAIN or not name.startswith(DECOMPOSED)]
    rows = [["wrong labels", *(MEASURES[name][0] for name in names)]]
    for share in shares_of(data, images):
        ends = [records[-1] for records in runs_of(data, images, share)]
        rows.append([f"{100 * share:.0f} %", *_cells(ends, names)])
    return rows


def _time_rows(data: list[dict[str, Any]]) -> list[list[str]]:
    """Return the measures by time, of the least and the greatest share of wrong labels."""
    rows = [["wrong labels", "epochs", *(title for title, _, _ in MEASURES.values())]]
    for share in (shares_of(data)[0], shares_of(data)[-1]):
        for each in zip(*runs_of(data, MAIN, share), strict=True):
            epochs = each[0]["step"] / STEPS_AN_EPOCH
            rows.append([f"{100 * share:.0f} %", f"{epochs:.2g}", *_cells(each, MEASURES)])
    return rows


def _cells(records: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Return the mean over seeds of some measures, with its interval."""
    cells = []
    for name in names:
        _, factor, spec = MEASURES[name]
        found = Answer.of([measure(record, name) for record in records])
        cells.append(found.text(spec, factor))
    return cells


def training_figure(data: list[dict[str, Any]]) -> Figure:
    """Draw nats by band and time for two shares of wrong labels, and four measures by time."""
    figure, axes = new_figure(8.2, 4.8, columns=3, rows=2, shared=False)
    shares = shares_of(data)
    ends = (shares[0], shares[-1])
    profiles = {
        share: np.mean(
            [[one["nats"] for one in records] for records in runs_of(data, MAIN, share)], axis=0
        )
        for share in ends
    }
    most = max(float(np.abs(each).max()) for each in profiles.values())
    steps = [one["step"] for one in runs_of(data, MAIN, ends[0])[0]]
    for ax, share in zip((axes[0], axes[3]), ends, strict=True):
        shown = ax.imshow(
            profiles[share].T,
            cmap=DIVERGING,
            vmin=-most,
            vmax=most,
            aspect="auto",
            origin="lower",
        )
        ax.set_title(f"{100 * share:.0f} % wrong labels")
        shown_at = range(1, len(steps), 2)
        ax.set_xticks(shown_at, [f"{steps[k] / STEPS_AN_EPOCH:.2g}" for k in shown_at])
        ax.set_xlabel("epochs")
        ax.set_ylabel("band")
        bar = figure.colorbar(shown, ax=ax)
        bar.set_label("nats", fontsize=LABEL)
        bar.ax.tick_params(labelsize=SMALL)
    drawn = ("test_accuracy", "upper_share", "signed_score", "noise_upper")
    for ax, name in zip((axes[1], axes[2], axes[4], axes[5]), drawn, strict=True):
        _draw(ax, data, name)
    axes[5].set_title("points lost to noise in bands 4-7")
    axes[2].legend(title="wrong labels", loc="lower left", ncols=2)
    figure.suptitle(
        f"{len(runs_of(data, MAIN, 0.0))} small nets of digits for each share of wrong labels: "
        "means and 95 % intervals over seeds"
    )
    return figure


def _draw(ax: Axes, data: list[dict[str, Any]], name: str) -> None:
    """Draw the mean of a measure by time, a line for each share of wrong labels."""
    title, factor, _ = MEASURES[name]
    for k, share in enumerate(shares_of(data)):
        runs = runs_of(data, MAIN, share)
        found = [
            Answer.of([measure(one, name) for one in each]) for each in zip(*runs, strict=True)
        ]
        # A little aside of each other, so that no interval hides another.
        epochs = [one["step"] / STEPS_AN_EPOCH * 1.04**k for one in runs[0]]
        low, high, mean = (
            factor * np.array([getattr(one, part) for one in found])
            for part in ("low", "high", "mean")
        )
        ax.errorbar(
            epochs,
            mean,
            yerr=(mean - low, high - mean),
            marker=MARKS[k],
            markersize=3,
            linewidth=1,
            elinewidth=0.6,
            color=COLOURS[k],
            label=f"{100 * share:.0f} %",
        )
    ax.set_xscale("log")
    ax.set_xticks([1, 10, 50], ["1", "10", "50"])
    ax.set_xlabel("epochs")
    ax.set_title(title)
    if name != "test_accuracy":
        ax.axhline(0, color=FAINT, linewidth=0.8, zorder=0)


def facts(data: list[dict[str, Any]]) -> dict[str, str]:
    """Return what the study's page says in its sentences, by name."""
    found = answers(data)
    said = verdicts(found)
    return {
        "first": said["low bands first"],
        "second": said["evidence moves up"],
        "third": said["errors under noise move up"],
        "score_slope": found["wrong labels, signed score"].text("+.2f"),
        "least_nats": f"{LEAST_NATS:g}",
        "later_share": change_in_time(data, "upper_share", least_nats=LEAST_NATS).text("+.3f"),
        "later_check": change_in_time(data, "upper_share", CHECK, LEAST_NATS).text("+.3f"),
        "later_score": change_in_time(data, "signed_score").text("+.2f"),
        "lower_slope": slope(data, "nats_lower").text("+.2f"),
        "upper_slope": slope(data, "nats_upper").text("+.2f"),
        **_tried(data),
    }


def _tried(data: list[dict[str, Any]]) -> dict[str, str]:
    """Return what became of the one net that was tried on few photographs."""
    ((record,),) = runs_of(data, TRIED, 0.0)
    return {
        "n_tried": str(record["n_train"] + record["n_test"]),
        "tried": f"{100 * record['test_accuracy']:.0f} % of {record['n_test']}",
    }


def page(text: str, data: list[dict[str, Any]]) -> str:
    """Return the page with its tables filled in."""
    return fill_blocks(text, tables(data))


def main(files: list[str]) -> None:
    """Take new runs in, if there are any, and build page and figure."""
    source = FOLDER / "training.json"
    if files:
        runs = (read_json(Path(file)) for file in files)
        write_json(source, condense(runs), indent=None)
    data = read_json(source)
    readme = FOLDER / "README.md"
    write_atomic(readme, page(readme.read_text(encoding="utf-8"), data).encode())
    save_figure(training_figure(data), FOLDER / "training.png")


if __name__ == "__main__":
    run(main)
