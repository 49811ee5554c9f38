"""RobustBench's `benchmark` with interpretability beside its two numbers: change the import.

    from iaside_plugins.adapters.robustbench_adapter import benchmark, load_model

`load_model`, `BenchmarkDataset` and `ThreatModel` are RobustBench's own.
`python -m iaside_plugins.adapters.robustbench_adapter` takes the flags of
``python -m robustbench.eval`` by name and default, and ours.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.robustbench_adapter.attacked_images import attack_log
from iaside_plugins.adapters.robustbench_adapter.bundle import write_bundle
from iaside_plugins.adapters.robustbench_adapter.cost import Cost
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest, Request, prepared
from iaside_plugins.adapters.robustbench_adapter.run import (
    BenchmarkResult,
    cost_of,
    finished,
    run_facts,
)
from iaside_plugins.adapters.robustbench_adapter.tables import upsert
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol

__all__ = ["benchmark", "cost", "evaluate"]
_HOSTS = {  # what RobustBench's users import beside `benchmark`, and where it has it
    "load_model": "robustbench.utils",
    "BenchmarkDataset": "robustbench.model_zoo.enums",
    "ThreatModel": "robustbench.model_zoo.enums",
}
_log = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    """RobustBench's own `load_model`, `BenchmarkDataset` and `ThreatModel`, once asked for.

    RobustBench as published does not import; from here they come also where it does not.
    """
    if name not in _HOSTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_robustbench()
    return getattr(importlib.import_module(_HOSTS[name]), name)


def benchmark(
    model: Any,
    n_examples: int = 10000,
    dataset: Any = "cifar10",
    threat_model: Any = "Linf",
    to_disk: bool = False,
    model_name: str | None = None,
    data_dir: str | Path = "./data",
    corruptions_data_dir: str | Path | None = None,
    device: Any = None,
    batch_size: int = 32,
    eps: float | None = None,
    log_path: str | Path | None = None,
    preprocessing: Any = None,
    aa_state_path: str | Path | None = None,
    *,
    n_bands: int | None = None,
    protocol: Protocol | None = None,
    n_spectral: int | None = 75,
    spectral: bool = True,
    profiles: bool = True,
    resume: str | Path | None = None,
    reference_errors: Any = None,
    seed: int = 0,
    entry_path: str | Path | None = None,
    precision: str = "float32",
    workers: int = 0,
    attacks: Sequence[str] | None = None,
    model_info_dir: str | Path = "model_info",
    bundle: str | Path | None = None,
    note: str | None = None,
    cache: str | Path | None = None,
    show_progress: bool = True,
) -> tuple[float, float]:
    """Clean and robust accuracy, as RobustBench measures them; the rest goes to files.

    Positional arguments, their order and defaults are RobustBench's. Unlike there, AutoAttack is
    seeded, a stopped run goes on where it was, images are streamed, mCE is never divided by
    something unnamed, and a model in training mode is evaluated in evaluation mode. To have the
    spectral importance in hand and not in a file, call `evaluate`.

    Args:
        model: A ``torch.nn.Module``, (N, C, H, W) images in [0, 1] -> logits, normalising inside;
            or a specification for `load_model`. It is moved to `device`.
        n_examples: Images to take.
        dataset: "cifar10", "cifar100" or "imagenet", or RobustBench's enum.
        threat_model: "Linf", "L2", "corruptions" or "corruptions_3d", or RobustBench's enum.
        to_disk: Whether to write RobustBench's JSON, and for corruptions the table of cells.
        model_name: Name in the files; of a model of the zoo also where its preprocessing is from.
        data_dir: RobustBench's data folder; or any folder of class folders, or a CSV manifest.
        corruptions_data_dir: Where ImageNet-C, ImageNet-3DCC or CIFAR-10-C lies; None for
            `data_dir`; "generate" to make the 15 corruptions here.
        device: "cpu", "cuda", "cuda:1" or "auto"; None for the CPU, as in RobustBench.
        batch_size: Images in one pass, and attacked together.
        eps: Budget in pixel units, for Linf and L2 only.
        log_path: File that AutoAttack's messages are appended to.
        preprocessing: A key of RobustBench or a function, for ImageNet models outside the zoo.
        aa_state_path: Folder that keeps attacked batches, in place of one in `resume`.
        n_bands: Number of spectral bands, 8 by default.
        protocol: Every choice of the spectral importance, in place of `n_bands`.
        n_spectral: Images for each spectral importance, a seeded selection; None for all.
        spectral: Whether to compute it at all.
        profiles: Whether to compute it also on corrupted or attacked images.
        resume: Folder for unfinished work, which stays; by default one in the user's cache, which
            goes once the run is complete. It is for one model, known again by its class, its
            weights and its logits of up to 16 images, to a thousandth of the greatest.
        reference_errors: Denominator of mCE (ImageNet), see `benchmark_reference.corruption_plan`.
        seed: Of AutoAttack, of selections, and of corruptions made here.
        entry_path: Where the leaderboard entry goes: a .json file, or a folder (any other name).
        precision: Of the spectral importance's passes.
        workers: Processes that decode images.
        attacks: Attacks of AutoAttack's version "custom", in place of "standard".
        model_info_dir: Folder of RobustBench's JSON files and tables.
        bundle: Folder for what a pull request or an external evaluation takes.
        note: What readers of the entry must know of the images.
        cache: Folder that keeps corrupted images made here, for the next model.
        show_progress: Whether to show progress bars.

    Returns:
        (clean accuracy, robust accuracy), as shares. For corruptions the second is the plain mean
        over all corruptions and severities.

    Raises:
        InputError: For anything that cannot be used, in one line, before any long work.
        MissingExtraError: A library that it takes is not installed.
    """
    arguments = dict(locals())
    budgets: Any = eps
    if isinstance(budgets, (list, tuple)) and budgets:
        raise InputError("benchmark takes one eps; evaluate(..., eps=[...]) takes several")
    found = run_request(Request(**arguments))
    return found.clean_accuracy, found.robust_accuracy


def evaluate(model: Any, **options: Any) -> dict[str, Any]:
    """The full entry: clean, robust and spectral, with intervals, n, seeds and provenance.

    Args:
        model: As for `benchmark`.
        options: The other arguments of `benchmark`, by name; `eps` may be a list of budgets.

    Returns:
        The entry as JSON values; its group ``benchmark`` holds the spectral importance under
        each condition and the accuracy after each attack.

    Raises:
        InputError: As `benchmark`; also for ``spectral=False``, without which there is no entry.
    """
    if not options.get("spectral", True):
        raise InputError("an entry holds the spectral importance: not with spectral=False")
    entry = run_request(_request(model, options)).entry
    return entry or {}


def cost(model: Any, **options: Any) -> Cost:
    """What the same call of `benchmark` would cost; runs a few images to time them, no more.

    Raises:
        InputError: As `benchmark`: a dry run makes all its checks.
    """
    with prepared(_request(model, options)) as ready:
        return cost_of(ready)


def _request(model: Any, options: dict[str, Any]) -> Request:
    unknown = sorted(set(options) - set(Request.__dataclass_fields__))
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}; see benchmark for those there are")
    return Request(model=model, **options)


def run_request(request: Request, say: Callable[[str], None] = _log.info) -> BenchmarkResult:
    """Run a request and write its files; what `benchmark` and `evaluate` do.

    Args:
        request: What to run.
        say: Is told the cost before it starts.

    Raises:
        InputError: As `benchmark`.
    """
    with prepared(request) as ready, attack_log(request.log_path):
        cost = cost_of(ready)
        say(str(cost))
        with finished(ready, cost) as found:
            _write(ready, found)
            return found


def _write(ready: PreparedRequest, found: BenchmarkResult) -> None:
    """Every file that was asked for."""
    request, threat = ready.request, ready.threat
    entry = None if found.entry is None else typed_entry(found.entry)
    if request.entry_path is not None and entry is not None:
        path, folder = Path(request.entry_path), request.entry_folder
        write_entry(path if folder is None else folder / f"{entry.entry_id}.json", entry)
    mce = None if found.corruption is None else found.corruption["mce"]
    standard = ready.spec is None or ready.spec.attacks is None
    measured = model_info.measured(
        threat.model,
        threat.dataset,
        clean=found.clean_accuracy,
        robust=found.robust_accuracy,
        eps=ready.spec.epsilons[0] if ready.spec else None,
        mce=mce and mce["value"],
        standard=standard,
    )
    own = model_info.own_fields(
        model_info.group_name(threat.model, standard), run_facts(ready, found), entry
    )
    if request.to_disk:
        file, table = ready.model_info_files()
        if table is not None:
            upsert(table, ready.name, found.cells, threat.corruptions)
        model_info.update(file, measured, own)
    if request.bundle is not None:
        write_bundle(Path(request.bundle), ready, found, measured, own)
