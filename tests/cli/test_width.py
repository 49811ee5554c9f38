"""No line of what a command prints is wider than the terminal, and no figure is lost to that."""

from __future__ import annotations

import importlib
from functools import partial

import pytest
import torch
from tiny_model import network

from iaside_plugins.display.text import fitted

NARROW, *WIDER = 60, 80, 120, 200
MODEL = "python:tiny_model:network"
SOME = ("--corruptions", "gaussian_noise,elastic_transform,contrast")
BANDS = ("--n-bands", 8)
SAMPLED = ("--protocol", "estimator=permutation", *BANDS)
BUDGETS = ("--epsilons", "8/255", "--epsilons-l2", "0.5", "--attack-steps", 2)
EVALUATE = ("--corruptions", "generate", "--attacks", "fgsm,pgd", "--epsilons", "8/255")
LEVELS = ("--absence", "zero,replacement", "--band-norm", "chebyshev", "--beta", "0.75,0.9")
# Command: its arguments, and the functions of its module that make its text.
COMMANDS = {
    "profile": ((MODEL, *BANDS, "--forecast"), ("spectral_report", "forecast_text")),
    "explain": (
        (MODEL, *SOME, *BANDS, "--severities", "1", "--versus", MODEL),
        ("decomposition_text", "versus_text"),
    ),
    "evaluate": (
        (MODEL, *EVALUATE, "--attack-steps", 2, *BANDS, "--out", "entry.json", "--frost"),
        ("entry_report",),
    ),
    "compare": ((MODEL, "--methods", "ig,saliency", *BANDS), ("agreement_text",)),
    "heatmap": ((MODEL, *BANDS), ("heatmap_text",)),
    "sensitivity": (
        (MODEL, "--weights", "first.pth", "--weights", "second.pth", "--n-bands", 3, *LEVELS),
        ("sensitivity_text",),
    ),
    "spectrum": (
        (
            *SOME,
            "--severities",
            "1",
            "--model",
            MODEL,
            *SAMPLED,
            "--attacks",
            "band_pgd",
            *BUDGETS[2:],
        ),
        ("spectrum_summary",),
    ),
    "spectrum --long": (
        (
            *SOME,
            "--severities",
            "1",
            "--model",
            MODEL,
            *SAMPLED,
            "--attacks",
            "band_pgd",
            *BUDGETS[2:],
        ),
        ("spectrum_text",),
    ),
}


def widest(text: str) -> int:
    return max(map(len, text.split("\n")))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_fits_the_terminal(command, iaside, images, frost, tmp_path, monkeypatch):
    arguments, makers = COMMANDS[command]
    name, *flags = command.split()
    module = importlib.import_module(f"iaside_plugins.cli.{name}")
    made = []
    for maker in makers:
        real = getattr(module, maker)

        def recorded(*args, real=real, **kwargs):
            made.append(partial(real, *args, **kwargs))
            return real(*args, **kwargs)

        monkeypatch.setattr(module, maker, recorded)
    monkeypatch.chdir(tmp_path)  # a long path would be a word that does not fit
    for file in ("first.pth", "second.pth"):
        torch.save(network().state_dict(), file)
    monkeypatch.setenv("COLUMNS", str(NARROW))
    given = (frost,) if name == "evaluate" else ()  # to its last option
    run = iaside(name, *arguments, *given, "--data", images, *flags)
    assert run.code == 0, run.err
    assert widest(run.out) <= NARROW, run.out
    assert {one.func.__name__ for one in made} == set(makers)
    for text in made:
        monkeypatch.delenv("COLUMNS")
        whole = text()
        figures = {word for word in whole.split() if any(map(str.isdigit, word))}
        for width in (NARROW, *WIDER):
            monkeypatch.setenv("COLUMNS", str(width))
            shown = fitted(text(), width)
            assert widest(shown) <= width, shown
            if "decomposition" not in text.func.__module__:  # which adds neighbouring bands up
                assert figures <= set(shown.split()), figures - set(shown.split())
