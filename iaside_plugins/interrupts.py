"""Ctrl-C in a command of this package, from the first import to the end; other programs' is theirs.

Imported before all else, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

INTERRUPTED = "interrupted; finished images are kept: run the same command again to go on"

_AGAIN = 0.05  # seconds until an interrupt that was lost is repeated
_seen = threading.Event()
_kept: list[int] = []


def _command() -> str | None:
    """Return the name of the command that this process is, or None for any other program."""
    if "multiprocessing.spawn" in sys.modules and "--multiprocessing-fork" in sys.orig_argv:
        return None
    if sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1]
        if module in (["iaside_plugins"], ["iaside_plugins.cli"]):
            return "iaside"
        if module and module[0].startswith(("iaside_plugins.cli.", "iaside_plugins.adapters.")):
            return module[0].rpartition(".")[2]
    name = Path(sys.argv[0]).stem if sys.argv[:1] else ""
    return name if name == "iaside" else None


def _end(*_: Any) -> None:
    """End at once: there is nothing to keep yet."""
    os.write(2, f"{COMMAND}: {INTERRUPTED}\n".encode())
    os._exit(2)


def _raise(_number: int, _frame: FrameType | None) -> None:
    _seen.set()
    raise KeyboardInterrupt


def _unraisable(found: Any) -> None:
    """Repeat an interrupt that came where none can be raised, as in a destructor."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        threading.Timer(_AGAIN, os.kill, (os.getpid(), signal.SIGINT)).start()
    elif not was_interrupted():  # after it, destructors fail on what was cut short
        sys.__unraisablehook__(found)


def _set(handler: Any) -> None:
    """Set what Ctrl-C does, unless the process was started to ignore it."""
    if COMMAND and threading.current_thread() is threading.main_thread() and _heard:
        signal.signal(signal.SIGINT, handler)


def raise_from_now() -> None:
    """Raise KeyboardInterrupt on Ctrl-C, and never lose one: the command begins its work."""
    _set(_raise)
    if COMMAND:
        sys.unraisablehook = _unraisable


def ignore_from_now() -> None:
    """Ignore Ctrl-C: the command has said how it ends."""
    _set(signal.SIG_IGN)


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed, whatever became of the exception since."""
    return _seen.is_set()


def note_kept(n_images: int) -> None:
    """Note how many finished images a folder of an interrupted command keeps."""
    _kept.append(n_images)


def interrupted() -> str:
    """Return the end of an interrupted command: `INTERRUPTED`, with the images that were noted."""
    text = INTERRUPTED
    if _kept:
        text = text.replace("finished", f"{sum(_kept):,} finished")
        _kept.clear()
    return text


COMMAND = _command()
_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
_set(_end)
