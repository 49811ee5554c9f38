"""The command line of the adapter: RobustBench's flags by name and default, and ours.

One default is another: the device is the GPU only if there is one.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from iaside_plugins.adapters.models.load import FORMS, load_model
from iaside_plugins.adapters.models.robustbench_zoo import DATASETS, THREAT_MODELS, Threat
from iaside_plugins.adapters.robustbench_adapter.api import print_line, run_and_print
from iaside_plugins.adapters.robustbench_adapter.cost import cost_of
from iaside_plugins.adapters.robustbench_adapter.request import Request, prepared
from iaside_plugins.allocator import keep_freed_memory
from iaside_plugins.budgets import parse_budget
from iaside_plugins.display.errors import exit_on_bad_input, exit_with, with_options
from iaside_plugins.errors import InputError

EPS = 8 / 255  # RobustBench's default, meant for CIFAR; used here for Linf and L2 only
NAME = "robustbench_adapter"
EXAMPLE = (
    "example: python -m iaside_plugins.adapters.robustbench_adapter --model timm:resnet50 "
    "--dataset imagenet --threat_model corruptions --data_dir val --corruptions_data_dir generate "
    "--dry-run"
)
OURS = {  # flags of the same name and default as an argument of `benchmark`, with their help
    "preprocessing": "a key of RobustBench, such as Res256Crop224",
    "n_bands": "spectral bands; 8, if not given",
    "n_spectral": "images of the spectral importance",
    "spectral": "compute the importance and the entry",
    "profiles": "compute the importance on perturbed images too",
    "explain": "split the errors over frequency bands too",
    "attacks": "AutoAttack's version custom: apgd-ce,square,...",
    "reference_errors": "a published table, an entry, or a .csv table",
    "resume": "folder that keeps finished work",
    "entry_path": "where the leaderboard entry goes",
    "bundle": "folder for a pull request or an external evaluation",
    "model_info_dir": "folder of RobustBench's JSON files",
    "log_path": "file that AutoAttack's messages are appended to",
    "aa_state_path": "folder that keeps attacked batches",
    "precision": "float32, float64, bfloat16 or float16",
    "workers": "processes that decode and corrupt images",
    "note": "what readers must know of the images",
    "cache": "folder that keeps corrupted images made here",
}
INTEGERS = ("n_bands", "n_spectral", "workers")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults that are something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "") or action.nargs == 0:
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """A parser that ends bad usage with one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        exit_with(NAME, message)


def truth(text: str) -> bool:
    """Read the boolean of a flag; RobustBench's own parser takes "False" for true."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return known[text.lower()]


def budget(text: str) -> float:
    """Read a budget such as 0.5 or 8/255."""
    try:
        return parse_budget(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    flags = _Parser(
        prog=NAME,
        allow_abbrev=False,
        description=__doc__,
        epilog=EXAMPLE,
        usage=f"{NAME} [options]",
        formatter_class=_Help,
    )
    host = flags.add_argument_group("as in RobustBench")
    host.add_argument("--model_name", default="Carmon2019Unlabeled", help="a model of the zoo")
    host.add_argument("--custom_checkpoint", default="", help="weights, for --model or the zoo's")
    host.add_argument("--threat_model", default="Linf", choices=THREAT_MODELS, help="what perturbs")
    host.add_argument("--dataset", default="cifar10", choices=DATASETS, help="whose labels")
    host.add_argument("--eps", type=budget, help=f"{EPS:.6f} for Linf and L2, if not given")
    host.add_argument("--n_ex", type=int, default=100, help="number of images")
    host.add_argument("--batch_size", type=int, default=500, help="images attacked together")
    host.add_argument("--data_dir", default="./data", help="folder of the clean images")
    host.add_argument(
        "--corruptions_data_dir",
        default="",
        help="folder of the corrupted images, --data_dir if not given; generate: made here",
    )
    host.add_argument("--model_dir", default="./models", help="where the zoo's weights are kept")
    host.add_argument("--seed", type=int, default=0, help="of attacks and selections")
    host.add_argument("--device", default="auto", help="auto, cpu or cuda[:i]")
    host.add_argument("--to_disk", type=truth, default=True, help="write RobustBench's files")
    ours = flags.add_argument_group("added here")
    ours.add_argument("--model", help=", ".join(FORMS))
    for name, text in OURS.items():
        default = Request.__dataclass_fields__[name].default
        kind = truth if isinstance(default, bool) else int if name in INTEGERS else str
        ours.add_argument(f"--{name}", type=kind, default=default, help=text)
    ours.add_argument("--dry_run", "--dry-run", action="store_true", help="check, say the cost")
    ours.add_argument("--quiet", action="store_true", help="no progress bars, only the two numbers")
    return flags


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; on bad input print one line to stderr and exit with code 2."""
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, format=f"{NAME}: %(message)s", stream=sys.stderr)
    with exit_on_bad_input(NAME, _options):
        _main(parser().parse_args(arguments))


def _options() -> dict[str, str]:
    """Return the flag of every argument of `benchmark`, see `with_options`."""
    flags = {action.dest: action.option_strings[0] for action in parser()._actions}
    return flags | {"n_examples": flags["n_ex"], "n_workers": flags["workers"]}


def _main(given: argparse.Namespace) -> None:
    """Run what the flags ask for, and print it."""
    request = request_of(given)
    if given.dry_run:
        with prepared(request) as ready:
            _say(str(cost_of(ready)))
        return
    run_and_print(request, report=not given.quiet, say=_say)


def _say(text: str) -> None:
    """Print a text with flags in the place of arguments."""
    print_line(with_options(text, _options()))


def request_of(given: argparse.Namespace) -> Request:
    """Return the request that the flags make, with its model loaded.

    Raises:
        InputError: The model cannot be loaded; for the zoo's names the nearest are suggested.
    """
    threat = Threat.of(given.dataset, given.threat_model)
    weights = given.custom_checkpoint or None
    zoo = f"robustbench:{threat.dataset}/{threat.folder}/{given.model_name}"
    spec = zoo if given.model is None else given.model
    model = load_model(spec, weights=weights, model_dir=given.model_dir)
    named = given.model is None or given.model_name != parser().get_default("model_name")
    flags = vars(given)
    same = {name: flags[name] for name in Request.__dataclass_fields__ if name in flags}
    return Request(
        **{
            **same,
            "model": model,
            "n_examples": given.n_ex,
            "model_name": given.model_name if named else model.info.name,
            "corruptions_data_dir": given.corruptions_data_dir or None,
            "eps": EPS if given.eps is None and threat.is_attack else given.eps,
            "attacks": given.attacks.split(",") if given.attacks else None,
            "show_progress": not given.quiet,
        }
    )


if __name__ == "__main__":
    main()
