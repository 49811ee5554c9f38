"""The command line: RobustBench's flags by name and default, one line and exit 2 for bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("robustbench") is None:
    pytest.skip("RobustBench is not installed", allow_module_level=True)
from robustbench_layout import make_cifar, make_folder

from iaside_plugins.adapters.robustbench_adapter import __main__ as robustbench_flags
from iaside_plugins.adapters.robustbench_adapter.__main__ import EPS, main, parser, request_of

MODEL = "python:tiny_model:network"
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cifar(tmp_path_factory.mktemp("cifar"), 6)


def run(*arguments: Any) -> None:
    main([str(argument) for argument in arguments])


def test_flags_and_defaults_are_robustbenchs(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustbench_host import utils

    monkeypatch.setattr(sys, "argv", ["eval"])
    theirs = vars(utils.parse_args())
    ours = vars(parser().parse_args([]))
    assert ours.pop("eps") is None  # taken for Linf and L2 only: it leaks into corruptions (D12)
    assert theirs.pop("eps") == EPS == 8 / 255
    theirs["device"] = "auto"  # cuda:0 there, which fails where there is no GPU
    assert {name: ours[name] for name in theirs} == theirs
    # The command of RobustBench's README.
    line = (
        "--n_ex=5000 --dataset=imagenet --threat_model=Linf --model_name=Salman2020Do_R18 "
        "--data_dir=/data --batch_size=128 --eps=0.0156862745"
    )
    given = parser().parse_args(line.split())
    assert (given.n_ex, given.eps) == (5000, 0.0156862745)


@pytest.mark.parametrize(
    ("text", "expected"), [("False", False), ("false", False), ("0", False), ("True", True)]
)
def test_to_disk_false_is_false(text: str, expected: bool) -> None:
    """RobustBench's own parser makes True of "False"."""
    assert parser().parse_args([f"--to_disk={text}"]).to_disk is expected


def test_a_run(cifar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [
        "--model",
        MODEL,
        "--n_ex",
        6,
        "--batch_size",
        3,
        "--data_dir",
        cifar,
        "--device",
        "cpu",
        "--n_bands",
        3,
        "--n_spectral",
        2,
        "--threat_model",
        "corruptions",
    ]
    run(*common, "--dry-run")
    out = capsys.readouterr().out
    assert out.startswith("cost: clean 6 passes")
    assert "corruptions 450 passes" in out
    assert list(Path().iterdir()) == []
    run(*common, "--to_disk", "false", "--entry_path", "e.json")
    out = capsys.readouterr().out
    assert "\nClean accuracy: " in out
    assert "\nAdversarial accuracy: " in out
    assert "signed score under corruptions" in out
    assert [path.name for path in Path().iterdir()] == ["e.json"]
    run(*common, "--quiet", "--model_name", "mine")
    assert len(capsys.readouterr().out.splitlines()) == 2
    written = json.loads(Path("model_info/cifar10/corruptions/mine.json").read_text())
    assert written["eps"] is None


def test_the_module_runs(cifar: Path) -> None:
    """`python -m`, with its own process and exit code."""
    tests = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "iaside_plugins.adapters.robustbench_adapter",
            "--model",
            MODEL,
            "--n_ex",
            "7",
            "--data_dir",
            str(cifar),
            "--device",
            "cpu",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "robustbench_adapter: --n_ex 7, and there are 6 images in the test set; give as many "
        "or fewer\n"
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--model_name", "Carmon2019Unlabelled"], "close names: Carmon2019Unlabeled"),
        (["--model_name", "Carmon2019Unlabeled"], "no weights for robustbench:cifar10/Linf/Carmon"),
        (["--model", MODEL, "--n_ex", "7"], "--n_ex 7, and there are 6"),
        (["--model", MODEL, "--threat_model", "corruptions", "--eps", "8/255"], "leave it out"),
        (["--model", MODEL, "--threat_model", "L1"], "invalid choice: 'L1'"),
        (["--model", MODEL, "--to_disk", "maybe"], "expected true or false, got 'maybe'"),
        (["--model", MODEL, "--eps", "8/0"], "expected a budget such as 0.5 or 8/255, got '8/0'"),
        (["--model", MODEL, "--n_examples", "6"], "unrecognized arguments: --n_examples"),
        (["--model", "python:tiny_model:nothing"], "'nothing'"),
        (["--model", MODEL, "--seed", "-1"], "--seed must be an integer of at least 0"),
        (["--model", MODEL, "--seed", "99999999999999999999999"], "at most 4294967295"),
        (["--model", MODEL, "--device", "cuda:77"], "CUDA GPUs"),
        (["--model", MODEL, "--model_info_dir", "/proc/x"], "cannot write"),
        (["--model", MODEL, "--custom_checkpoint", "no.pth"], "no weights file at no.pth"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    cifar: Path,
    arguments: list[str],
    fragment: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from robustbench_host import utils

    def unreachable(*_: Any) -> None:
        raise OSError("the network is unreachable")

    monkeypatch.setattr(utils, "download_gdrive_new", unreachable)
    given = ["--n_ex", "6", "--data_dir", str(cifar), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        run(*given, *arguments)
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert err.startswith("robustbench_adapter: ")
    assert err.count("\n") == 1
    assert fragment in err
    assert not list(Path().rglob("*.json"))


def test_ctrl_c_says_how_to_go_on(
    cifar: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(robustbench_flags, "request_of", interrupted)
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2
    assert "run the same command again" in capsys.readouterr().err


def test_names_of_models(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", ("cat",), 1)
    flags = ["--model", MODEL, "--data_dir", str(folder)]
    assert request_of(parser().parse_args(flags)).model_name == "network"
    assert request_of(parser().parse_args([*flags, "--model_name", "x"])).model_name == "x"
    assert request_of(parser().parse_args(flags)).eps == EPS
