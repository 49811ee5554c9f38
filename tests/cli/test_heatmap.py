"""`iaside heatmap`: cost, table, JSON, a picture, resuming, and one line for every mistake."""

from __future__ import annotations

import json

from tiny_model import WATCH

from iaside_plugins import FourierHeatMap
from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.errors import MissingExtraError
from iaside_plugins.value_table.progress import GRADIENT_PASSES

MODEL = "python:tiny_model:network"
SOME = ("--device", "cpu", "--n-bands", 4, "--step", 4)
N_FREQUENCIES = (8 * 8 + 4) // 2


def test_a_heat_map_is_printed_written_and_drawn(iaside, images, tmp_path):
    out, picture, full = (tmp_path / f"found.{kind}" for kind in ("json", "png", "npz"))
    files = ("--json", out, "--plot", picture, "--save", full)
    run = iaside("heatmap", MODEL, "--data", images, *SOME, "--norm", 2, *files)
    assert run.code == 0, run.err
    assert "cost: 210 forward passes" in run.out
    for text in ("noise of L2 norm 2", "error without noise", "cycles/image", "12-16"):
        assert text in run.out
    data = json.loads(out.read_text())
    assert data["model"]["name"] == "network"
    assert len(data["frequencies"]) == len(data["error"]) == N_FREQUENCIES
    assert len(data["band_means"]["value"]) == len(data["band_means"]["interval"]) == 4
    assert FourierHeatMap.load(full).to_dict().items() <= data.items()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on_where_it_was(iaside, images, tmp_path, monkeypatch):
    command = ("heatmap", MODEL, "--data", images, *SOME, "--quiet", "--json")
    whole = tmp_path / "whole.json"
    assert iaside(*command, whole).code == 0
    monkeypatch.setattr(WATCH, "rows", 0)
    monkeypatch.setattr(WATCH, "_interrupt_after", 142)
    assert iaside(*command, tmp_path / "no.json", "--resume", tmp_path / "run").code == 2
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    later = tmp_path / "later.json"
    assert iaside(*command, later, "--resume", tmp_path / "run").code == 0
    found, first = (json.loads(path.read_text()) for path in (later, whole))
    assert 0 < found.pop("n_forward") < first.pop("n_forward")
    assert found == first


def test_mistakes_are_one_line(iaside, images, monkeypatch):
    def refused(*arguments: object) -> None:
        iaside("heatmap", MODEL, "--data", images, "--device", "cpu", *arguments[:-1]).refused(
            arguments[-1]
        )

    refused("--norm", 0, "--norm must be above 0")
    refused("--grid", 1, "--grid must be an integer of at least 2")
    refused("--grid", 8, "--step", 4, "--grid and --step exclude each other")
    refused("--step", 0, "--step must be an integer of at least 1")
    refused("--protocol", "band_norm=round", "chebyshev, euclidean")
    refused("--protocol", "temperature=2", "temperature of the protocol needs --views")
    for given in ((), ("--views",)):
        refused(*given, "--protocol", "absence=gaussian", "absence=gaussian does not go with")
    refused("--band-norm", "euclidean", "use --protocol band_norm=euclidean")
    refused("--n-bands", 32, "too small")
    refused("--n-bands", 40, "--n-bands must be at most 32, got 40")
    refused("--plot", "map.txt", ".png")
    monkeypatch.setattr(WATCH, "rows", 0)
    refused(*SOME[2:], "--views", "--n-images", 1, "at least 2 images, got 1")
    assert WATCH.rows == 0


def test_the_bands_of_a_protocol_are_those_of_map_and_views(iaside, images, tmp_path):
    def found(*arguments: object) -> dict:
        out = tmp_path / "found.json"
        some = ("--device", "cpu", "--quiet", "--json", out)
        run = iaside("heatmap", MODEL, "--data", images, *some, *arguments)
        assert run.code == 0, run.err
        return json.loads(out.read_text())

    few = iaside("heatmap", MODEL, "--data", images, "--grid", 8, "--dry-run", "--device", "cpu")
    assert "fewer frequencies, --grid 4" in few.out
    alone = found("--grid", 4, "--protocol", "n_bands=4,band_norm=euclidean,seed=1")
    assert [alone[name] for name in ("n_bands", "band_norm", "seed")] == [4, "euclidean", 1]
    assert alone["step"] == 8  # of 32 pixels
    assert "protocol" not in alone
    chains = found(
        "--views", "--grid", 4, "--n-bands", 4, "--protocol", "permutation,band_norm=euclidean"
    )
    assert chains["protocol"]["estimator"] == "permutation"
    assert chains["protocol"]["band_norm"] == "euclidean"
    assert len(chains["views"]["views"][0]["value"]) == 4


def test_views_stand_beside_the_map_with_and_without_foolbox(
    iaside, images, tmp_path, monkeypatch, caplog
):
    out, picture = tmp_path / "found.json", tmp_path / "views.png"
    command = ("heatmap", MODEL, "--data", images, *SOME, "--views", "--json", out)
    run = iaside(*command, "--plot", picture)
    assert run.code == 0, run.err
    assert (
        f"cost: {round(6 * (1 + N_FREQUENCIES + 2 * 15 + 80 * GRADIENT_PASSES)):,} forward"
        in run.out
    )
    assert "views of the bands, 6 images" in run.out
    assert caplog.text.count("not distinguishable from chance") == 1  # by both views of the images
    names = ["importance", "attack inside the band", "contribution per energy", "Fourier heat map"]
    found = json.loads(out.read_text())["views"]
    assert [view["name"] for view in found["views"]] == names
    assert all(len(view["value"]) == 4 for view in found["views"])
    assert picture.read_bytes().startswith(b"\x89PNG")

    def lacking() -> None:
        raise MissingExtraError("no Foolbox here")

    monkeypatch.setattr(foolbox_adapter, "check_installed", lacking)
    assert iaside(*command).code == 0
    fewer = json.loads(out.read_text())["views"]["views"]
    assert fewer == [found["views"][k] for k in (0, 2, 3)]
