"""RobustBench and this package on the same tiny model and the same files, in the same test."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from robustbench_host import data as host_data
from robustbench_host import enums, transforms, utils
from robustbench_host import evaluation as host
from robustbench_layout import Layout, Pooled, fitted, make_cifar, make_imagenet

from iaside_plugins.adapters.imagenet.cifar import ArrayImages, read_cifar
from iaside_plugins.adapters.robustbench_adapter.api import benchmark
from iaside_plugins.adapters.robustbench_adapter.tables import read_table, upsert
from iaside_plugins.entry.robustbench_json import robustbench_ids

SMALL = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
GOOD, BAD = 1.0, 2.5  # brittleness of two networks under corruption
BATCH = 4  # of 6 images: AutoAttack packs the survivors of its first attack anew


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return make_imagenet(tmp_path_factory.mktemp("rb"))


@pytest.fixture(autouse=True)
def quick_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RobustBench in an empty folder, decoding in this process: workers would cost minutes."""
    loader = torch.utils.data.DataLoader

    def in_process(*args: Any, num_workers: int = 0, **kwargs: Any) -> Any:
        return loader(*args, **kwargs)

    monkeypatch.setattr(host_data, "data", SimpleNamespace(DataLoader=in_process))
    monkeypatch.chdir(tmp_path)


def network(layout: Layout, geometry: Any, brittle: float = 1.0) -> Pooled:
    """A network that has learned the clean images but for one."""
    images, labels = host_data.load_imagenet(len(layout.names), str(layout.root), geometry)
    labels[0] = 5
    return fitted(images, labels, brittle=brittle)


def ours(net: Any, layout: Layout, **options: Any) -> tuple[float, float]:
    options = {"spectral": False, "show_progress": False, "batch_size": BATCH, **options}
    return benchmark(net, len(layout.names), "imagenet", data_dir=str(layout.root), **options)


def theirs(net: Any, layout: Layout, **options: Any) -> tuple[float, float]:
    return host.benchmark(
        net, len(layout.names), "imagenet", data_dir=str(layout.root), batch_size=BATCH, **options
    )


def show(threat_model: str, theirs: tuple[float, float], ours: tuple[float, float]) -> None:
    """Two lines of the table of both, seen with ``pytest -s``."""
    print(f"\n{threat_model:<16}{'RobustBench':>20}{'this package':>20}")
    for name, a, b in zip(("clean", "robust"), theirs, ours, strict=True):
        print(f"{name:<16}{a:>20.16f}{b:>20.16f}")


@pytest.mark.usefixtures("quick_attacks")
@pytest.mark.parametrize(("threat_model", "eps"), [("Linf", 4 / 255), ("L2", 0.6)])
def test_attacks_give_the_same_two_numbers(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, threat_model: str, eps: float
) -> None:
    import pyautoattack

    # RobustBench seeds AutoAttack with the time (D8): for once with our seed.
    monkeypatch.setattr(pyautoattack.AutoAttack, "get_seed", lambda self: self.seed or 0)
    net = network(layout, SMALL)
    options = {"threat_model": threat_model, "eps": eps, "preprocessing": SMALL}
    expected = theirs(net, layout, **options)
    found = ours(net, layout, seed=0, **options)
    show(threat_model, expected, found)
    assert found == expected
    assert expected[0] == 5 / 6
    assert 0 < expected[1] < 2 / 3  # several attacks fool some: their order and batches matter


@pytest.mark.parametrize("threat_model", ["corruptions", "corruptions_3d"])
def test_corruptions_give_the_same_numbers_rows_and_files(
    layout: Layout, tmp_path: Path, threat_model: str
) -> None:
    part = "_3d" if threat_model.endswith("_3d") else ""
    table = Path("model_info/imagenet/corruptions") / f"unaggregated_results{part}.csv"
    alexnet = network(layout, host_data.PREPROCESSINGS["Res256Crop224"], brittle=BAD)
    mine = network(layout, host_data.PREPROCESSINGS["Res256Crop224"], brittle=GOOD)
    common = {"threat_model": threat_model, "preprocessing": "Res256Crop224", "to_disk": True}

    # RobustBench's own folder, with its denominator first: without that row it stops (D3).
    reference = theirs(alexnet, layout, model_name="AlexNet", **common)
    expected = theirs(mine, layout, model_name="Mine", **common)
    # Ours, in another folder.
    home = tmp_path / "ours"
    options = {**common, "model_info_dir": home, "spectral": False}
    assert ours(alexnet, layout, model_name="AlexNet", **options) == reference
    reference_errors = home / table.relative_to("model_info")  # beside AlexNet.json, as written
    found = ours(mine, layout, model_name="Mine", reference_errors=reference_errors, **options)

    show(threat_model, expected, found)
    assert found == expected
    assert reference[1] < found[1] < found[0] == 5 / 6
    pd.testing.assert_frame_equal(
        read_table(home / table.relative_to("model_info")), read_table(table), check_exact=True
    )
    written = json.loads(Path("model_info/imagenet/corruptions/Mine.json").read_text())
    own = json.loads((home / "imagenet/corruptions/Mine.json").read_text())
    assert float(written[f"corruptions_mce{part}"]) > 0
    mces = [found_json[f"corruptions_mce{part}"] for found_json in (written, own)]
    print(f"{'mCE':<16}{mces[0]:>20}{mces[1]:>20}")
    keys = ("clean_acc", f"corruptions_acc{part}", f"corruptions_mce{part}", "dataset")
    assert {key: own[key] for key in keys} == {key: written[key] for key in keys}
    assert set(written) <= set(own)  # a superset of RobustBench's
    assert own["eps"] is None


def test_enums_and_strings_are_one(layout: Layout) -> None:
    net = network(layout, host_data.PREPROCESSINGS["Res256Crop224"])
    options = {"preprocessing": "Res256Crop224"}
    by_name = ours(net, layout, threat_model="corruptions_3d", **options)
    by_enum_names = {
        "dataset": enums.BenchmarkDataset.imagenet,
        "threat_model": enums.ThreatModel.corruptions_3d,
    }
    by_enum = benchmark(
        net,
        len(layout.names),
        data_dir=layout.root,
        spectral=False,
        show_progress=False,
        **by_enum_names,
        **options,
    )
    assert by_name == by_enum


def test_robustbench_reads_our_table_and_keeps_our_keys(layout: Layout) -> None:
    """Our AlexNet row is RobustBench's denominator, and its update leaves our fields alone."""
    net = network(layout, host_data.PREPROCESSINGS["Res256Crop224"])
    alexnet = network(layout, host_data.PREPROCESSINGS["Res256Crop224"], brittle=BAD)
    common = {"threat_model": "corruptions", "preprocessing": "Res256Crop224", "to_disk": True}
    ours(alexnet, layout, model_name="AlexNet", **common)
    table = Path("model_info/imagenet/corruptions/unaggregated_results.csv")
    found = ours(net, layout, model_name="Mine", reference_errors=table, **common)
    file = table.with_name("Mine.json")
    before = json.loads(file.read_text())
    assert theirs(net, layout, model_name="Mine", **common) == found
    after = json.loads(file.read_text())
    assert after == before  # the same text of the same numbers, and every key of ours
    utils.update_json(
        enums.BenchmarkDataset.imagenet,
        enums.ThreatModel.corruptions,
        "Mine",
        0.5,
        0.25,
        None,
        {"corruptions_mce": 0.75},
    )
    changed = json.loads(file.read_text())
    assert changed["corruptions_mce"] == "75.0"
    assert {k: v for k, v in changed.items() if k.startswith("iaside_")} == {
        k: v for k, v in before.items() if k.startswith("iaside_")
    }


@pytest.mark.usefixtures("quick_attacks")
def test_robustbenchs_own_listing_reads_our_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, n = "Carmon2019Unlabeled", 10  # of its zoo, by name alone: the network is another
    root = make_cifar(tmp_path / "data", n)
    pixels, labels = read_cifar(root, "cifar10") or (None, None)
    (batch,) = ArrayImages(pixels, labels, np.arange(n), [""] * n, n)
    images, labels = batch[:2]
    net = fitted(images, labels, 10, brittle=1.0)
    _, robust = benchmark(
        net,
        n,
        to_disk=True,
        model_name=name,
        data_dir=root,
        eps=4 / 255,
        spectral=False,
        show_progress=False,
    )
    assert 0 < robust < 1
    utils.list_available_models("cifar10", "Linf")
    (line,) = [row for row in capsys.readouterr().out.splitlines() if name in row]
    assert f"{robust:.2%}" in line


def test_cifar_files_hold_the_same_images_for_both(tmp_path: Path) -> None:
    n = 10
    root = make_cifar(tmp_path / "data", n)
    # RobustBench takes 10000 rows a severity for granted; the file here is as long, mostly zeros.
    long = tmp_path / "long" / "CIFAR-10-C"
    long.mkdir(parents=True)
    short = np.load(root / "CIFAR-10-C" / "fog.npy")
    array = np.lib.format.open_memmap(
        long / "fog.npy", mode="w+", dtype=np.uint8, shape=(50000, 32, 32, 3)
    )
    for severity in range(5):
        array[10000 * severity : 10000 * severity + n] = short[n * severity : n * (severity + 1)]
    array.flush()
    labels = np.load(root / "CIFAR-10-C" / "labels.npy")
    np.save(long / "labels.npy", np.tile(np.resize(labels[:n], 10000), 5))
    x, y = host_data.load_cifar10c(n, 1, str(tmp_path / "long"), corruptions=["fog"])
    net = fitted(x, y, 10, brittle=1.0)
    expected = {
        severity: utils.clean_accuracy(
            net,
            *host_data.load_cifar10c(n, severity, str(tmp_path / "long"), corruptions=["fog"]),
            batch_size=BATCH,
        )
        for severity in range(1, 6)
    }
    assert len(set(expected.values())) > 1
    benchmark(
        net,
        n,
        "cifar10",
        "corruptions",
        to_disk=True,
        model_name="net",
        data_dir=root,
        spectral=False,
        show_progress=False,
        batch_size=BATCH,
        model_info_dir=tmp_path / "out",
    )
    row = read_table(tmp_path / "out/cifar10/corruptions/unaggregated_results.csv").loc["net"]
    assert {severity: row["fog", severity] for severity in range(1, 6)} == expected


def test_the_list_is_robustbenchs() -> None:
    assert len(robustbench_ids()) == len(set(robustbench_ids())) == 5000
    assert len({name.split("/")[0] for name in robustbench_ids()}) == 997


def test_the_same_row_twice_is_one_row_and_the_same_bytes(tmp_path: Path) -> None:
    """RobustBench appends another row, and two of AlexNet change every mCE (D4)."""
    file = tmp_path / "table.csv"
    cells = {("fog", severity): severity / 10 for severity in range(1, 6)}
    upsert(file, "AlexNet", cells, ("fog",))
    upsert(file, "Other", {**cells, ("fog", 1): 1 / 3}, ("fog",))
    first = file.read_bytes()
    upsert(file, "AlexNet", cells, ("fog",))
    assert file.read_bytes() == first
    # RobustBench's own way of reading it.
    table = pd.read_csv(file, header=[0, 1], index_col=0)
    table.columns = table.columns.set_levels(
        [table.columns.levels[0], table.columns.levels[1].astype(int)]
    )
    assert table.loc["Other"]["fog"][1] == 1 / 3
    assert (1 - table.loc["AlexNet"]["fog"]).mean() == pytest.approx(0.7)
    # A table that RobustBench has spoilt: the later row counts.
    lines = file.read_text().splitlines()
    spoilt = [line.replace("AlexNet,0.1", "AlexNet,0.9") for line in lines[2:3]]
    file.write_text("\n".join([*lines, *spoilt]) + "\n")
    assert read_table(file).loc["AlexNet"]["fog", 1] == 0.9
