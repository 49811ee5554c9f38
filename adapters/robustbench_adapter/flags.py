"""The command line of the adapter: RobustBench's flags by name and default, and ours."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.robustbench_names import DATASETS, THREAT_MODELS, Threat
from iaside_plugins.budgets import parse_budget
from iaside_plugins.display.report import entry_report
from iaside_plugins.errors import InputError

EPS = 8 / 255  # RobustBench's default, of CIFAR; taken for Linf and L2 only
NAME = "robustbench_adapter"


class _Parser(argparse.ArgumentParser):
    """Ends bad usage with one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def truth(text: str) -> bool:
    """A boolean of a flag: RobustBench's own parser takes "False" for true."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return known[text.lower()]


def fraction(text: str) -> float:
    """A budget such as 0.5 or 8/255."""
    try:
        return parse_budget(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """All flags."""
    flags = _Parser(prog=NAME, allow_abbrev=False, description=__doc__)
    host = flags.add_argument_group("as in RobustBench")
    host.add_argument("--model_name", default="Carmon2019Unlabeled")
    host.add_argument("--custom_checkpoint", default="", help="weights, for --model or the zoo's")
    host.add_argument("--threat_model", default="Linf", choices=THREAT_MODELS)
    host.add_argument("--dataset", default="cifar10", choices=DATASETS)
    host.add_argument("--eps", type=fraction, help=f"default {EPS:.6f} for Linf and L2")
    host.add_argument("--n_ex", type=int, default=100, help="number of images")
    host.add_argument("--batch_size", type=int, default=500)
    host.add_argument("--data_dir", default="./data")
    host.add_argument("--corruptions_data_dir", default="")
    host.add_argument("--model_dir", default="./models", help="where the zoo's weights are kept")
    host.add_argument("--seed", type=int, default=0)
    host.add_argument("--device", default="cuda:0")
    host.add_argument("--to_disk", type=truth, default=True)
    ours = flags.add_argument_group("added here")
    ours.add_argument(
        "--model", help="timm:NAME, torchvision:NAME, kit:NAME, python:MODULE:FACTORY"
    )
    ours.add_argument("--preprocessing", help="a key of RobustBench, such as Res256Crop224")
    ours.add_argument("--n_bands", type=int)
    ours.add_argument("--n_spectral", type=int, default=75)
    ours.add_argument("--spectral", type=truth, default=True)
    ours.add_argument("--profiles", type=truth, default=True)
    ours.add_argument("--attacks", help="AutoAttack's version custom: apgd-ce,square,...")
    ours.add_argument("--reference_errors", help="a published table, an entry, or a .csv table")
    ours.add_argument("--resume", help="folder that keeps finished work")
    ours.add_argument("--entry_path", help="where the leaderboard entry goes")
    ours.add_argument("--bundle", help="folder for a pull request or an external evaluation")
    ours.add_argument("--model_info_dir", default="model_info")
    ours.add_argument("--log_path")
    ours.add_argument("--aa_state_path")
    ours.add_argument("--precision", default="float32")
    ours.add_argument("--workers", type=int, default=0)
    ours.add_argument("--note")
    ours.add_argument("--cache", help="folder that keeps corrupted images made here")
    ours.add_argument("--dry_run", "--dry-run", action="store_true", help="check, say the cost")
    ours.add_argument("--quiet", action="store_true", help="no progress bars, only the two numbers")
    return flags


def main(arguments: Sequence[str] | None = None) -> None:
    """Run; input that cannot be used ends it with one line on stderr and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format=f"{NAME}: %(message)s", stream=sys.stderr)
    try:
        _main(parser().parse_args(arguments))
    except (InputError, OSError) as error:
        _end(str(error))
    except KeyboardInterrupt:
        _end("interrupted; finished images are kept: run the same command again to go on")


def _end(message: str) -> NoReturn:
    sys.stderr.write(f"{NAME}: {' '.join(message.split())}\n")
    sys.exit(2)


def _main(given: argparse.Namespace) -> None:
    from iaside_plugins.adapters.robustbench_adapter.api import run_request
    from iaside_plugins.adapters.robustbench_adapter.request import prepared
    from iaside_plugins.adapters.robustbench_adapter.run import cost_of

    request = request_of(given)
    if given.dry_run:
        with prepared(request) as ready:
            _say(str(cost_of(ready)))
        return
    found = run_request(request, (lambda _: None) if given.quiet else _say)
    sys.stdout.write(f"Clean accuracy: {found.clean_accuracy:.2%}\n")
    sys.stdout.write(f"Adversarial accuracy: {found.robust_accuracy:.2%}\n")
    if not given.quiet and found.entry is not None and found.result is not None:
        sys.stdout.write(f"{entry_report(found.entry, found.result)}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def request_of(given: argparse.Namespace) -> Any:
    """The request that the flags make, its model loaded.

    Raises:
        InputError: The model cannot be had; for the zoo's names the nearest are suggested.
    """
    from iaside_plugins.adapters.models.robustbench_zoo import load_zoo_model
    from iaside_plugins.adapters.robustbench_adapter.request import Request

    threat = Threat.of(given.dataset, given.threat_model)
    eps = EPS if given.eps is None and threat.is_attack else given.eps
    weights = given.custom_checkpoint or None
    if given.model is None:
        model: Any = load_zoo_model(
            threat.dataset, threat.folder, given.model_name, given.model_dir, weights=weights
        )
    else:
        model = load_model(given.model, weights=weights)
    named = given.model is None or given.model_name != parser().get_default("model_name")
    return Request(
        model=model,
        n_examples=given.n_ex,
        dataset=given.dataset,
        threat_model=given.threat_model,
        to_disk=given.to_disk,
        model_name=given.model_name if named else model.info.name,
        data_dir=given.data_dir,
        corruptions_data_dir=given.corruptions_data_dir or None,
        device=given.device,
        batch_size=given.batch_size,
        eps=eps,
        log_path=given.log_path,
        preprocessing=given.preprocessing,
        aa_state_path=given.aa_state_path,
        n_bands=given.n_bands,
        n_spectral=given.n_spectral,
        spectral=given.spectral,
        profiles=given.profiles,
        resume=given.resume,
        reference_errors=given.reference_errors,
        seed=given.seed,
        entry_path=given.entry_path,
        precision=given.precision,
        workers=given.workers,
        attacks=given.attacks.split(",") if given.attacks else None,
        model_info_dir=given.model_info_dir,
        bundle=given.bundle,
        note=given.note,
        cache=given.cache,
        show_progress=not given.quiet,
    )
