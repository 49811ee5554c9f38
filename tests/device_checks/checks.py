"""A check notes what it measured: every deviation with its bound."""

from __future__ import annotations

import importlib.util
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass
class Notes:
    """What a check measured.

    Attributes:
        entries: Name, deviation and bound of everything compared.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)

    def near(self, what: str, found: Any, expected: Any, bound: float) -> None:
        """Note the greatest difference; none where shapes differ or a number is not finite."""
        a, b = (np.asarray(_host(x), dtype=np.float64) for x in (found, expected))
        deviation = float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else math.inf
        self.small(what, deviation, bound)

    def small(self, what: str, deviation: float, bound: float) -> None:
        """Note a deviation and its bound; None for one that is no number, as JSON has it."""
        size = deviation if math.isfinite(deviation) else None
        ok = bool(deviation <= bound)
        self.entries.append({"what": what, "deviation": size, "bound": bound, "ok": ok})

    def holds(self, what: str, is_true: bool) -> None:
        """Note that something holds, or does not."""
        self.small(what, 0.0 if is_true else math.inf, 0.0)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        run: (device, notes) -> None.
        cuda_only: Whether a CPU cannot show it.
        slow: Whether it starts processes or compiles.
        needs: Libraries it imports.
        n_gpus: GPUs it needs.
    """

    run: Callable[[torch.device, Notes], None]
    cuda_only: bool = False
    slow: bool = False
    needs: tuple[str, ...] = ()
    n_gpus: int = 0


CHECKS: dict[str, Check] = {}
_Run = Callable[[torch.device, Notes], None]


def check(**choices: Any) -> Callable[[_Run], _Run]:
    """Add a function to `CHECKS`; the choices are fields of `Check`."""

    def add(run: _Run) -> _Run:
        CHECKS[run.__name__] = Check(run, **choices)
        return run

    return add


def run_check(name: str, device: torch.device) -> dict[str, Any]:
    """Run one check; whatever it raises is written down.

    Returns:
        Name, ``status`` ("passed", "failed", "error" or "not run"), ``reason``, ``seconds``, and
        what was ``measured``.
    """
    one, notes, reason = CHECKS[name], Notes(), ""
    start = time.perf_counter()
    missing = [library for library in one.needs if importlib.util.find_spec(library) is None]
    if missing:
        status, reason = "not run", f"needs {', '.join(missing)}"
    elif one.cuda_only and device.type != "cuda":
        status, reason = "not run", "needs a GPU"
    elif one.n_gpus > torch.cuda.device_count():
        status, reason = "not run", f"needs {one.n_gpus} GPUs"
    else:
        try:
            with tf32(False):
                one.run(device, notes)
            off = [entry["what"] for entry in notes.entries if not entry["ok"]]
            status = "failed" if off or not notes.entries else "passed"
            reason = f"beyond its bound: {'; '.join(off)}" if off else ""
        except Exception as error:  # noqa: BLE001  the next check goes on
            status = "error"
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    return {
        "name": name,
        "status": status,
        "reason": reason,
        "seconds": time.perf_counter() - start,
        "measured": notes.entries,
    }


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow products and convolutions to round to TF32, or not, and put torch's flags back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _host(values: Any) -> Any:
    return values.detach().double().cpu().numpy() if torch.is_tensor(values) else values
