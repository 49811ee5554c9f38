"""Bad input in the words of the door it came through: Python's arguments, a command's options."""

from __future__ import annotations

import pytest

from iaside_plugins.display.errors import exit_on_bad_input, with_options
from iaside_plugins.errors import InputError

OPTIONS = {
    "batch_size": "--batch-size",
    "classes": "--classes",
    "device": "--device",
    "labels": "--labels",
    "n_bands": "--n-bands",
    "absence": "--protocol absence=",
    "range_handling": "--protocol range_handling=",
}


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ("batch_size must be 1, got 0", "--batch-size must be 1, got 0"),
        ("lower batch_size; try again", "lower --batch-size; try again"),
        ("device must be cpu", "--device must be cpu"),
        ("device=cuda:9: no such GPU", "--device cuda:9: no such GPU"),
        ("labels='rank' needs images", "--labels rank needs images"),
        ("give classes=FILE alone", "give --classes FILE alone"),
        ("give classes=..., or labels=...", "give --classes, or --labels"),
        ("(labels=...)", "(--labels)"),
        ("n_bands=9 needs 512 passes", "--n-bands 9 needs 512 passes"),
        ("absence must be zero, got 'x'", "--protocol absence must be zero, got 'x'"),
        (
            "absence='replacement' needs range_handling='clip'",
            "--protocol absence=replacement needs range_handling=clip",
        ),
    ],
)
def test_arguments_are_shown_as_options(python: str, command: str) -> None:
    assert with_options(python, OPTIONS) == command
    assert with_options(python, {}) == python


@pytest.mark.parametrize(
    "message",
    [
        "another device is busy",  # a word, not an argument
        "known fields: n_bands, absence, beta",
        "cannot read data/batch_size/img.png",
        "got 'batch_size'",
        "unknown option --batch_size",
        "my_batch_size must be 1",
        "no range_handling",
    ],
)
def test_other_words_stay(message: str) -> None:
    assert with_options(message, OPTIONS) == message


def test_the_end_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, exit_on_bad_input("tool", lambda: OPTIONS):
        raise InputError("batch_size must be\n  1")
    assert end.value.code == 2
    assert capsys.readouterr().err == "tool: --batch-size must be 1\n"
    with pytest.raises(SystemExit) as end, exit_on_bad_input("tool", lambda: OPTIONS):
        raise KeyboardInterrupt
    assert end.value.code == 2
    assert "run the same command again" in capsys.readouterr().err
