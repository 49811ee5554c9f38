"""`iaside sensitivity`: several models, every variant, entries, resuming, mistakes."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from image_files import make_tree
from tiny_model import WATCH, network

from iaside_plugins.cli import command as cli

MODEL = "python:tiny_model:network"
SMALL = ("--device", "cpu", "--n-bands", 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Four states of the tiny network."""
    folder = tmp_path_factory.mktemp("weights")
    files = []
    for k in range(4):
        net = network()
        rng = torch.Generator().manual_seed(k)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=rng)
        files.append(folder / f"net-{k}.pth")
        torch.save(net.state_dict(), files[-1])
    return files


def test_several_weights_of_one_model(iaside, images, weights, tmp_path):
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    given = [part for file in weights for part in ("--weights", file)]
    run = iaside(
        "sensitivity", MODEL, *given, "--data", images, *SMALL, "--json", out, "--plot", picture
    )
    assert run.code == 0, run.err
    for text in (
        "4 models, 6 images, 108 variants",
        "range handling",
        "replacement",
        "fitted",
        "net-2: SpectralImportance(6 images",
    ):
        assert text in run.out, text
    data = json.loads(out.read_text())
    assert [model["name"] for model in data["models"]] == [file.stem for file in weights]
    assert len(data["variants"]) == 108
    assert all(0 <= one["off_range"] <= 1 for one in data["variants"])
    assert data["associations"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_entries_give_associations(iaside, images, weights, tmp_path):
    board = tmp_path / "entries"
    board.mkdir()
    for k, file in enumerate(weights):
        run = iaside(
            "evaluate",
            MODEL,
            "--weights",
            file,
            "--name",
            f"net {k}",
            "--data",
            images,
            *SMALL,
            "--corruptions",
            "none",
            "--attacks",
            "fgsm",
            "--epsilons",
            "4/255,64/255",
            "--out",
            board,
            "--quiet",
        )
        assert run.code == 0, run.err
    given = [part for file in weights for part in ("--weights", file)]
    run = iaside(
        "sensitivity",
        MODEL,
        *given,
        "--data",
        images,
        *SMALL,
        "--entries",
        board,
        "--absence",
        "zero",
        "--band-norm",
        "chebyshev",
        "--temperature",
        "1",
        "--beta",
        "0.75",
        "--json",
        "-",
    )
    assert run.code == 0, run.err
    data = json.loads(run.out)
    assert len(data["variants"]) == 3
    outcomes = {one["outcome"] for one in data["associations"]}
    assert {"accuracy Linf 4/255", "accuracy Linf 64/255"} <= outcomes
    entry = json.loads(next(board.glob("*net-2*")).read_text())
    said = data["models"][2]["outcomes"]
    assert data["models"][2]["clean_accuracy"] == pytest.approx(
        entry["clean_accuracy"]["value"], rel=1e-4
    )
    case = entry["adversarial"]["worst_case"][0]["accuracy"]["value"]
    assert said["accuracy Linf 4/255"] == pytest.approx(case, rel=1e-4)


def test_the_share_out_of_range_does_not_depend_on_the_batch_size(iaside, images):
    """In a batch of one image each would stand in for its own absent bands."""
    found = []
    for size in (1, 64):
        choices = ("--absence", "replacement", "--band-norm", "chebyshev", "--beta", "0.75")
        given = ("--data", images, *SMALL, *choices, "--batch-size", size, "--json", "-")
        run = iaside("sensitivity", MODEL, *given)
        assert run.code == 0, run.err
        found.append([one["off_range"] for one in json.loads(run.out)["variants"]])
    assert found[0] == found[1]
    assert max(found[0]) > 0


def test_an_interrupted_run_goes_on_and_finds_the_same(iaside, images, weights, tmp_path):
    arguments = (
        "sensitivity",
        MODEL,
        "--weights",
        weights[0],
        "--weights",
        weights[1],
        "--data",
        images,
        *SMALL,
        "--absence",
        "zero",
        "--quiet",
        "--json",
    )
    assert iaside(*arguments, tmp_path / "whole.json").code == 0
    whole = WATCH.rows
    WATCH._interrupt_after, WATCH.rows = 3 * whole // 4, 0
    run = iaside(*arguments, tmp_path / "no.json")
    assert run.code == 2
    assert "run the same command again" in run.err
    WATCH._interrupt_after, WATCH.rows = None, 0
    assert iaside(*arguments, tmp_path / "resumed.json").code == 0
    assert WATCH.rows < whole / 2
    first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("whole.json", "resumed.json")
    )
    del first["provenance"], second["provenance"]
    assert first == second


def test_it_takes_what_every_command_takes():
    root = typer.main.get_command(cli.app)
    found = {name for one in root.commands["sensitivity"].params for name in one.opts}
    common = {
        "--device",
        "--batch-size",
        "--seed",
        "--n-images",
        "--n-bands",
        "--protocol",
        "--resume",
        "--json",
        "--quiet",
        "--plot",
        "--data",
        "--entries",
    }
    assert common <= found


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--range-handling", "clip,wrap"), ["--range-handling must", "'wrap'", "rescale"]),
        (("--bands", "4,many"), ["numbers of bands", "'many'"]),
        (("--bands", "17"), ["--n-bands 17"]),
        (("--bands", "4", "--crossed", "5"), ["crossed at 5 bands"]),
        (("--temperature", "0"), ["temperature"]),
        (("--beta", "1"), ["beta"]),
        (("--protocol", "reference"), ["script"]),
        (("--name", "a", "--name", "b"), ["--name", "1, got 2"]),
        (("--entries", "nowhere.json"), ["nowhere.json"]),
        (("--plot", "found.txt"), ["found.txt"]),
        (("--resume", "/dev/null"), ["/dev/null"]),
    ],
)
def test_mistakes_end_with_one_line(iaside, images, arguments, fragments):
    size = () if "--bands" in arguments else SMALL[2:]
    run = iaside("sensitivity", MODEL, "--data", images, "--device", "cpu", *size, *arguments)
    run.refused(*fragments)
    assert WATCH.rows == 0


def test_an_entry_of_other_weights_is_refused(iaside, images, weights, tmp_path):
    run = iaside(
        "evaluate",
        MODEL,
        "--weights",
        weights[0],
        "--data",
        images,
        *SMALL,
        "--corruptions",
        "none",
        "--attacks",
        "none",
        "--out",
        tmp_path,
        "--quiet",
    )
    assert run.code == 0, run.err
    run = iaside(
        "sensitivity",
        MODEL,
        "--weights",
        weights[1],
        "--name",
        "other",
        "--data",
        images,
        *SMALL,
        "--entries",
        tmp_path,
    )
    run.refused("no entry is of the weights of other", "--entries")


def test_images_too_small_for_some_number_of_bands_are_refused_before_the_work(iaside, tmp_path):
    tree = make_tree(tmp_path / "small", ("bird", "cat"), n=1, height=16, width=16)
    run = iaside("sensitivity", MODEL, "--data", tree, *SMALL, "--bands", "3,9")
    run.refused("16 x 16", "--n-bands 9")
    assert WATCH.rows == 0
