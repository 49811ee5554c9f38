"""An entry as files for the Hugging Face Hub: evaluation results of a model, and a benchmark.

The forms are those of the Hub's page on evaluation results (huggingface.co/docs/hub/eval-results):
a model's repository holds ``.eval_results/*.yaml``, each result naming a data set that is a
benchmark and one of its tasks; the data set's repository holds ``eval.yaml`` with these tasks.
Nothing is uploaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.exports import model_card
from iaside_plugins.entry.schema import Entry
from iaside_plugins.entry.yaml import to_yaml
from iaside_plugins.errors import InputError, shown

FRAMEWORK = "iaside-plugins"  # `evaluation_framework`, which the Hub asks to be told of
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


class Result(NamedTuple):
    """One number, the task that it is a result of, and how it was measured."""

    task: str
    value: float
    notes: str


def files(entry: Entry, benchmark: str, *, split: str = "test") -> dict[str, str]:
    """Return the files of a model's and a benchmark's repository, by their path.

    Args:
        entry: A checked one.
        benchmark: Data set on the Hub that the entry's images are of, OWNER/NAME; an entry does
            not know it.
        split: Of that data set.

    Raises:
        InputError: The name is none of a repository.
    """
    if not _REPOSITORY.fullmatch(benchmark):
        raise InputError(f"expected benchmark=OWNER/NAME on the Hub, got {shown(benchmark)}")
    name = benchmark.partition("/")[2]
    return {
        "model/model-index.yaml": model_card(entry),
        f"model/.eval_results/{name}.yaml": eval_results(entry, benchmark),
        "dataset/eval.yaml": eval_yaml(entry, split),
    }


def eval_results(entry: Entry, benchmark: str) -> str:
    """Return a file of ``.eval_results``: one item a number, proportions in [0, 1]."""
    return to_yaml(
        [
            {
                "dataset": {"id": benchmark, "task_id": result.task},
                "value": result.value,
                "date": entry.provenance.date,
                "notes": result.notes,
            }
            for result in results(entry)
        ]
    )


def eval_yaml(entry: Entry, split: str = "test") -> str:
    """Return the ``eval.yaml`` of a benchmark whose tasks are the entry's."""
    return to_yaml(
        {
            "name": f"Spectral importance and robustness on {entry.data.name}",
            "description": "Clean accuracy, spectral robustness scores (above 0 where importance "
            "leans to low frequencies), errors under corruption and accuracy under attack of image "
            "classifiers. Values are shares in [0, 1], not percents; scores and an mCE may exceed "
            "1. Results of different protocols, corruptions or attacks are tasks of their own.",
            "evaluation_framework": FRAMEWORK,
            "tasks": [
                {"id": result.task, "config": "default", "split": split}
                for result in results(entry)
            ],
        }
    )


def results(entry: Entry) -> list[Result]:
    """Return the numbers of an entry that are tasks of a benchmark."""
    return [*_clean(entry), *_corrupted(entry), *_attacked(entry)]


def _clean(entry: Entry) -> Iterator[Result]:
    spectral, clean = entry.spectral, entry.clean_accuracy
    yield Result("accuracy", clean.value, _notes(entry, clean.n, clean.interval))
    for name in ("signed_score", "score"):
        ends = getattr(spectral, f"{name}_interval")
        notes = _notes(entry, spectral.n_images, ends)
        yield Result(f"{name}_{entry.protocol.protocol_id}", getattr(spectral, name), notes)


def _corrupted(entry: Entry) -> Iterator[Result]:
    group = entry.corruption
    if group is None:
        return
    mean = group.unnormalised_mean_error
    about = f"{group.source} corruptions, JPEG {'on' if group.jpeg else 'off'}, seed {group.seed}"
    kind = _id(group.source, f"{mean.n_corruptions}-corruptions")
    notes = _notes(entry, mean.n, mean.interval, about)
    yield Result(f"mean_corruption_error_unnormalised_{kind}", mean.value, notes)
    if group.mce is not None:
        notes = _notes(entry, mean.n, None, f"{about}, reference {group.mce.reference}")
        yield Result(f"mce_{_id(group.source, group.mce.reference)}", group.mce.value, notes)


def _attacked(entry: Entry) -> Iterator[Result]:
    for case in entry.adversarial.worst_case if entry.adversarial else ():
        budget = format_budget(case.epsilon).replace("/", "-")
        task = f"robust_accuracy_{_id(case.norm, budget, *case.attacks)}"
        about = f"{case.norm} {format_budget(case.epsilon)}, worst of {', '.join(case.attacks)}"
        yield Result(
            task, case.accuracy.value, _notes(entry, case.accuracy.n, case.accuracy.interval, about)
        )


def _id(*parts: str) -> str:
    """Return an identifier of a task, of letters, digits and the signs _.- alone."""
    return "_".join(re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-") or "x" for part in parts)


def _notes(entry: Entry, n: int, interval: Any, about: str = "") -> str:
    """Return n, interval, images and weights of a number in one sentence."""
    ends = (
        ""
        if interval is None or None in interval
        else (f", 95 % interval [{interval[0]:.4f}, {interval[1]:.4f}]")
    )
    made = f"iaside-plugins {entry.provenance.iaside_plugins}, {entry.entry_id}"
    digest = f"image ids {entry.data.image_ids_sha256[:12]}"
    weights = f"weights {entry.model.weights_sha256[:12]}"
    return "; ".join(filter(None, [f"n = {n}{ends}", about, digest, weights, made]))
