"""RobustBench's `benchmark` with interpretability added; only the import changes.

    from iaside_plugins.adapters.robustbench_adapter import benchmark, load_model

`load_model`, `BenchmarkDataset` and `ThreatModel` are RobustBench's own.
`python -m iaside_plugins.adapters.robustbench_adapter` takes the flags of
``python -m robustbench.eval`` by name and default, and ours.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.robustbench_adapter.autoattack import attack_log
from iaside_plugins.adapters.robustbench_adapter.bundle import write_bundle
from iaside_plugins.adapters.robustbench_adapter.cost import BenchmarkCost, cost_of
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest, Request, prepared
from iaside_plugins.adapters.robustbench_adapter.run import (
    BenchmarkResult,
    run_benchmark,
    run_facts,
)
from iaside_plugins.adapters.robustbench_adapter.tables import upsert
from iaside_plugins.display.report import entry_report
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError

__all__ = ["benchmark", "cost", "evaluate"]
_HOSTS = {  # what RobustBench's users import besides `benchmark`, and from which of its modules
    "load_model": "robustbench.utils",
    "BenchmarkDataset": "robustbench.model_zoo.enums",
    "ThreatModel": "robustbench.model_zoo.enums",
}
NOT_KEPT = "not kept in a file: give entry_path=..., or call evaluate(...), which returns all of it"
_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_Pair = tuple[float, float]
_OfRequest = Callable[[Request], _Pair]


def __getattr__(name: str) -> Any:
    """Return RobustBench's own `load_model`, `BenchmarkDataset` or `ThreatModel`, imported lazily.

    RobustBench as published does not import; from here these names work all the same.
    """
    if name not in _HOSTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_robustbench()
    return getattr(importlib.import_module(_HOSTS[name]), name)


def _called_as(request: Callable[_P, Request]) -> Callable[[_OfRequest], Callable[_P, _Pair]]:
    """Give a function of a `Request` the signature of that class, for people and type checkers."""

    def decorate(function: _OfRequest) -> Callable[_P, _Pair]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _Pair:
            try:
                arguments = request(*args, **kwargs)
            except TypeError as error:  # an argument is missing or unknown
                raise TypeError(str(error).replace("Request.__init__", function.__name__)) from None
            return function(arguments)

        returned = function.__annotations__["return"]
        signature = inspect.signature(request).replace(return_annotation=returned)
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate


@_called_as(Request)
def benchmark(request: Request) -> tuple[float, float]:  # noqa: D417  documents its fields
    """Measure clean and robust accuracy as RobustBench does, and in which bands they arise.

    Both are printed, in RobustBench's words. The rest goes to the files that are asked for; if
    there are none, it is printed too.

    Positional arguments, their order and defaults are RobustBench's. Unlike there, AutoAttack is
    seeded, a stopped run can be resumed, images are streamed, mCE is divided only by a named
    reference, and a model in training mode is evaluated in evaluation mode. `evaluate` returns
    the spectral importance instead of writing it to a file.

    Args:
        model: A ``torch.nn.Module``, (N, C, H, W) images in [0, 1] -> logits, normalising inside;
            or a specification for `load_model`. It is moved to `device`.
        n_examples: Number of images to take.
        dataset: "cifar10", "cifar100" or "imagenet", or RobustBench's enum.
        threat_model: "Linf", "L2", "corruptions" or "corruptions_3d", or RobustBench's enum.
        to_disk: Whether to write RobustBench's JSON, and for corruptions the table of cells.
        model_name: Name in the files. For a model of RobustBench's zoo it also decides the
            preprocessing.
        data_dir: RobustBench's data folder; or any folder of class folders, or a CSV manifest.
        corruptions_data_dir: Where ImageNet-C, ImageNet-3DCC or CIFAR-10-C lies; None for
            `data_dir`; "generate" to make the 15 corruptions here.
        device: "cpu", "cuda", "cuda:1" or "auto", which None is too: a GPU if there is one.
        batch_size: Images in one pass, and attacked together.
        eps: Budget in pixel units, for Linf and L2 only.
        log_path: File that AutoAttack's messages are appended to.
        preprocessing: A key of RobustBench or a function, for ImageNet models outside the zoo.
        aa_state_path: Folder that keeps attacked batches, instead of one in `resume`.
        n_bands: Number of spectral bands, 8 by default.
        protocol: Every choice of the spectral importance, instead of `n_bands`.
        n_spectral: Number of images, drawn with the seed, that each spectral importance is
            computed on; None for all.
        spectral: Whether to compute the spectral importance at all.
        profiles: Whether to compute it also on corrupted or attacked images.
        explain: Whether to split the errors over frequency bands too (`error_decomposition`), on
            the images of the spectral importance: under every corruption, or under the attack. It
            goes to the entry and to RobustBench's JSON.
        resume: Folder for unfinished work, which is left there. By default a folder in the user's
            cache, which is removed once the run is complete. It is for one model, recognised by
            its class, its weights and its logits of up to 16 images (to a thousandth of the
            largest logit).
        reference_errors: Denominator of mCE (ImageNet), see `reference.corruption_plan`.
        seed: Seed of AutoAttack, of selections, and of corruptions made here.
        entry_path: Where the leaderboard entry goes: a .json file, or a folder (any other name).
        precision: Precision of the spectral importance's forward passes.
        workers: Number of processes that decode images.
        attacks: Attacks of AutoAttack's version "custom", instead of "standard".
        model_info_dir: Folder of RobustBench's JSON files and tables.
        bundle: Folder for the files of a pull request or an external evaluation.
        note: What readers of the entry must know of the images.
        cache: Folder that keeps corrupted images made here, for the next model.
        show_progress: Whether to print the cost before the run, and to show progress bars.

    Returns:
        (clean accuracy, robust accuracy), in [0, 1]. For corruptions the second is the plain mean
        over all corruptions and severities.

    Raises:
        InputError: An argument, the model or the images cannot be used; raised before any long
            work, with a message of one line.
        MissingExtraError: A library that the run needs is not installed.
    """
    eps: Any = request.eps
    if isinstance(eps, (list, tuple)) and eps:
        raise InputError("benchmark takes one eps; evaluate(..., eps=[...]) takes several")
    kept = bool(request.to_disk or request.entry_path or request.bundle)
    result = run_and_print(request, report=not kept)
    if result.entry is not None and not kept:
        print_line(NOT_KEPT)
    return result.clean_accuracy, result.robust_accuracy


def evaluate(model: Any, **options: Any) -> dict[str, Any]:
    """Return the whole entry: clean, robust and spectral, with intervals, n, seeds and provenance.

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
    return run_request(_request(model, options)).entry or {}


def cost(model: Any, **options: Any) -> BenchmarkCost:
    """Return what the same call of `benchmark` would cost, timed on a few images.

    Args:
        model: As for `benchmark`.
        options: The other arguments of `benchmark`, by name.

    Raises:
        InputError: As `benchmark`: all its checks are made.
    """
    with prepared(_request(model, options)) as ready:
        return cost_of(ready)


def _request(model: Any, options: dict[str, Any]) -> Request:
    """Return the request that the options of `evaluate` or `cost` make."""
    unknown = sorted(set(options) - set(Request.__dataclass_fields__))
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}; see benchmark for those there are")
    return Request(model=model, **options)


def print_line(text: str) -> None:
    """Print a text to stdout at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_and_print(
    request: Request, *, report: bool, say: Callable[[str], None] = print_line
) -> BenchmarkResult:
    """Run a request and print RobustBench's two lines, as `benchmark` and the command do.

    Args:
        request: The arguments.
        report: Whether to print the spectral importance and all errors, too.
        say: Called with the cost before the run, if progress is shown.

    Raises:
        InputError: As `benchmark`.
    """
    result = run_request(request, say if request.show_progress else _log.info)
    print_line(f"Clean accuracy: {result.clean_accuracy:.2%}")
    print_line(f"Adversarial accuracy: {result.robust_accuracy:.2%}")
    if report and result.entry is not None and result.result is not None:
        print_line(entry_report(result.entry, result.result))
    return result


def run_request(request: Request, say: Callable[[str], None] = _log.info) -> BenchmarkResult:
    """Run a request and write its files.

    Args:
        request: The arguments of `benchmark`.
        say: Called with the cost of the run before it starts.

    Raises:
        InputError: As `benchmark`.
    """
    with prepared(request) as ready, attack_log(request.log_path):
        cost = cost_of(ready)
        say(str(cost))
        with run_benchmark(ready, cost) as result:
            _write(ready, result)
            return result


def _write(ready: PreparedRequest, result: BenchmarkResult) -> None:
    """Write every file that was asked for."""
    request, threat = ready.request, ready.threat
    entry = None if result.entry is None else typed_entry(result.entry)
    if request.entry_path is not None and entry is not None:
        path, folder = Path(request.entry_path), request.entry_folder
        write_entry(path if folder is None else folder / f"{entry.entry_id}.json", entry)
    mce = None if result.corruption is None else result.corruption["mce"]
    standard = ready.spec is None or ready.spec.attacks is None
    measured = model_info.measured(
        threat.model,
        threat.dataset,
        clean=result.clean_accuracy,
        robust=result.robust_accuracy,
        eps=ready.spec.epsilons[0] if ready.spec else None,
        mce=mce and mce["value"],
        standard=standard,
    )
    own = model_info.own_fields(
        model_info.group_name(threat.model, standard), run_facts(ready, result), entry
    )
    if request.to_disk:
        file, table = ready.model_info_files()
        if table is not None:
            upsert(table, ready.name, result.cells, threat.corruptions)
        model_info.update(file, measured, own)
    if request.bundle is not None:
        write_bundle(Path(request.bundle), ready, result, measured, own)
