"""ImageNet trees as RobustBench lays them out, parts of them, and what is refused before work."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import save_floats
from robustbench_layout import Layout, Pooled, make_folder, make_imagenet

from iaside_plugins.adapters.models.robustbench_zoo import ORDER
from iaside_plugins.adapters.robustbench_adapter.api import benchmark, cost, evaluate
from iaside_plugins.adapters.robustbench_adapter.reference import corruption_plan
from iaside_plugins.adapters.robustbench_adapter.request import Request, prepared
from iaside_plugins.adapters.robustbench_adapter.tables import upsert
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import load_reference
from iaside_plugins.entry.build import LISTED
from iaside_plugins.entry.robustbench_json import robustbench_ids
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import ids_digest

if importlib.util.find_spec("robustbench") is None:
    pytest.skip("RobustBench, which brings the list of images, is absent", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return make_imagenet(tmp_path_factory.mktemp("rb"))


@pytest.fixture
def net() -> Pooled:
    return Pooled().eval()


def request(net: Any, layout: Layout, **given: Any) -> Request:
    options = {
        "n_examples": len(layout.names),
        "dataset": "imagenet",
        "data_dir": layout.root,
        "threat_model": "corruptions",
        "preprocessing": "Res256Crop224",
    }
    return Request(net, **{**options, **given})


def test_the_corruptions_in_robustbenchs_order() -> None:
    assert set(ORDER["corruptions"]) == set(CORRUPTIONS)
    assert set(ORDER["corruptions_3d"]) == set(
        load_reference("alexnet_robustbench_3dcc_5k").mean_errors
    )


def test_the_first_of_the_list_in_its_order(net: Pooled, layout: Layout) -> None:
    with prepared(request(net, layout, n_examples=4)) as ready:
        assert ready.images.ids == robustbench_ids()[:4]
        assert ready.images.selection == LISTED
        assert not ready.images.is_whole_list
        _, labels, _ = next(iter(ready.images.clean(None)))
        assert tuple(labels.tolist()) == layout.labels[:4] == (979, 441, 980, 737)


def test_missing_classes_do_not_shift_labels(net: Pooled, layout: Layout, tmp_path: Path) -> None:
    """RobustBench numbers the folders there are: one unlisted class less, and all shift."""
    root = tmp_path / "part"
    for name in layout.names:
        (root / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(layout.root / "val" / name, root / "val" / name)
    with prepared(request(net, layout, data_dir=root, threat_model="Linf", eps=0.1)) as ready:
        _, labels, _ = next(iter(ready.images.clean(None)))
        assert tuple(labels.tolist()) == layout.labels
        assert ready.images.selection == LISTED
    # Without the first file of the list it is a selection of its own, and says so.
    (root / "val" / layout.names[0]).unlink()
    with prepared(
        request(net, layout, data_dir=root, threat_model="Linf", eps=0.1, n_examples=5)
    ) as ready:
        assert ready.images.selection == "all images there are"


def test_grouped_trees_are_the_flat_ones(net: Pooled, layout: Layout, tmp_path: Path) -> None:
    grouped = tmp_path / "grouped" / "ImageNet-C" / "weather"
    grouped.mkdir(parents=True)
    for name in ORDER["corruptions"]:
        home = grouped if name == "fog" else grouped.parent
        (home / name).symlink_to((layout.root / "ImageNet-C" / name).resolve())
    options = {
        "spectral": False,
        "show_progress": False,
        "dataset": "imagenet",
        "threat_model": "corruptions",
        "preprocessing": "Res256Crop224",
        "n_examples": len(layout.names),
        "data_dir": layout.root,
    }
    flat = benchmark(net, **options)
    for root in (grouped.parents[1], grouped.parent):
        assert benchmark(net, corruptions_data_dir=root, **options) == flat


def _copy(layout: Layout, root: Path) -> Path:
    """The tree ImageNet-C of the first image, to be broken."""
    name = layout.names[0]
    for corruption in ORDER["corruptions"]:
        for severity in "12345":
            file = root / corruption / severity / name
            file.parent.mkdir(parents=True)
            shutil.copy(layout.root / "val" / name, file)
    return root


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("fog", "has no fog; it holds"),
        ("fog/3", r"no severity 3 of fog; it holds \[1, 2, 4, 5\]"),
        ("fog/3/{wnid}", r"1 of 1 images are not in .*fog/3: {wnid}/"),
    ],
)
def test_a_broken_tree_is_named_before_any_work(
    net: Pooled, layout: Layout, tmp_path: Path, broken: str, message: str
) -> None:
    wnid = layout.names[0].split("/")[0]
    tree = _copy(layout, tmp_path / "tree")
    shutil.rmtree(tree / broken.format(wnid=wnid))
    with (
        pytest.raises(InputError, match=message.format(wnid=wnid)),
        prepared(request(net, layout, n_examples=1, corruptions_data_dir=tree)),
    ):
        pass
    assert net.rows == 0


def test_clean_images_that_were_cropped_before_are_said(
    net: Pooled, layout: Layout, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = _copy(layout, tmp_path / "tree")
    with prepared(request(net, layout, n_examples=1, corruptions_data_dir=tree)):
        assert "the two show different parts" in caplog.text
    caplog.clear()
    with prepared(request(net, layout, n_examples=1)):
        assert "the two show different parts" not in caplog.text


def test_unreadable_corrupted_images_are_named_before_any_work(
    net: Pooled, layout: Layout, tmp_path: Path
) -> None:
    tree = _copy(layout, tmp_path / "tree")
    (tree / "fog" / "3" / layout.names[0]).write_bytes(b"junk")
    with (
        pytest.raises(InputError, match="images of fog at severity 3 are unreadable"),
        prepared(request(net, layout, n_examples=1, corruptions_data_dir=tree)),
    ):
        pass
    save_floats(tree / "fog" / "3" / layout.names[0])
    with (
        pytest.raises(InputError, match=f"image {layout.names[0]}: expected pixels of 8 or 16"),
        prepared(request(net, layout, n_examples=1, corruptions_data_dir=tree)),
    ):
        pass
    assert net.rows == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preprocessing": None}, "needs preprocessing="),
        ({"reference_errors": "x"}, "no published table"),
        ({"preprocessing": None, "model_name": "AlexNett"}, "known: .*AlexNet"),
        ({"n_examples": 5001}, "n_examples=5001, and there are 6 images"),
        ({"corruptions_data_dir": "nowhere"}, "no folder nowhere"),
        ({"threat_model": "corruptions_3d", "corruptions_data_dir": "generate"}, "need depth"),
        ({"data_dir": "cifar"}, "holds classes of cifar10, and dataset='imagenet'"),
    ],
)
def test_what_else_is_refused(net: Pooled, layout: Layout, given: dict, message: str) -> None:
    make_folder(Path("cifar"), ("airplane", "cat"), 3)
    with pytest.raises(InputError, match=message), prepared(request(net, layout, **given)):
        pass
    assert net.rows == 0


def test_a_whole_list_has_its_published_denominator(net: Pooled, layout: Layout) -> None:
    with prepared(request(net, layout)) as ready:
        part = ready.images
    whole = dataclasses.replace(part, ids=robustbench_ids())
    assert corruption_plan(part, None).reference is None
    plan = corruption_plan(whole, None)
    assert plan.reference_name == "alexnet_robustbench_5k"
    assert plan.published is None
    assert corruption_plan(whole, "alexnet_robustbench_5k").reference is not None
    assert corruption_plan(part, "alexnet_robustbench_5k").published == "alexnet_robustbench_5k"
    assert corruption_plan(whole, "alexnet_hendrycks_50k").published == "alexnet_hendrycks_50k"
    with pytest.raises(InputError, match="not a table of the corruptions of corruptions"):
        corruption_plan(whole, "alexnet_robustbench_3dcc_5k")
    made = dataclasses.replace(whole, settings={**whole.settings, "source": "generated"})
    assert corruption_plan(made, None).reference is None  # other draws, other images


def test_denominators_must_be_of_as_many_images(
    net: Pooled, layout: Layout, tmp_path: Path
) -> None:
    """D3: without the row RobustBench fails after all passes; here nothing is computed first."""
    file = tmp_path / "table.csv"
    cells = {(c, s): 0.5 for c in ORDER["corruptions"] for s in range(1, 6)}
    upsert(file, "Other", cells, ORDER["corruptions"])
    with pytest.raises(InputError, match=r"has no row AlexNet.*it has Other"):
        evaluate(**vars(request(net, layout, reference_errors=file)))
    assert net.rows == 0
    upsert(file, "AlexNet", {**cells, ("fog", 2): 0.499}, ORDER["corruptions"])
    with prepared(request(net, layout)) as ready:
        run = {
            "image_ids_sha256": ids_digest(ready.images.ids),
            "corrupted_images": ready.images.settings,
        }
        beside = tmp_path / "AlexNet.json"
        beside.write_text(json.dumps({"iaside_corruptions": run}))
        with pytest.raises(InputError, match=r"0\.501 \(fog, severity 2\) is no share of 6 images"):
            corruption_plan(ready.images, file)
        upsert(file, "AlexNet", cells, ORDER["corruptions"])
        errors = {name: [0.5] * 5 for name in ORDER["corruptions"]}
        assert corruption_plan(ready.images, file).reference == errors
        # As many images are not the same images.
        for key, value in (("image_ids_sha256", "0" * 64), ("corrupted_images", {"seed": 1})):
            beside.write_text(json.dumps({"iaside_corruptions": {**run, key: value}}))
            with pytest.raises(InputError, match=f"row AlexNet is of these images .{key} differ"):
                corruption_plan(ready.images, file)
        beside.unlink()
        with pytest.raises(InputError, match="row AlexNet is of these images"):
            corruption_plan(ready.images, file)
        whole = dataclasses.replace(ready.images, ids=robustbench_ids())
        assert corruption_plan(whole, file).reference == errors  # RobustBench's own table
        with pytest.raises(InputError, match="bare numbers do not say"):
            corruption_plan(ready.images, errors)


def test_an_entry_is_a_denominator_for_its_own_images(
    net: Pooled, layout: Layout, tmp_path: Path
) -> None:
    file = tmp_path / "alexnet.json"
    given = {k: v for k, v in vars(request(net, layout)).items() if k != "model"}
    given |= {"n_spectral": 1, "n_bands": 2, "profiles": False, "show_progress": False}
    first = evaluate(net, **{**given, "entry_path": file})
    assert first["corruption"]["mce"] is None
    again = evaluate(net, **{**given, "reference_errors": file})
    assert again["corruption"]["mce"]["value"] == pytest.approx(1.0)
    assert again["corruption"]["mce"]["reference"] == "Pooled"
    with (
        pytest.raises(InputError, match="measured on other images"),
        prepared(request(net, layout, reference_errors=file, n_examples=5)),
    ):
        pass


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(("key", "n_cells"), [("Res256Crop224", 75), ("Crop288", 76)])
def test_the_cost_is_what_the_run_costs(
    net: Pooled, layout: Layout, key: str, n_cells: int
) -> None:
    """Also where the uncorrupted images of the corrupted geometry are no clean ones."""
    given = {k: v for k, v in vars(request(net, layout)).items() if k != "model"}
    given |= {"preprocessing": key, "n_bands": 2, "n_spectral": 2, "show_progress": False}
    expected = cost(net, **given)
    n = len(layout.names)
    assert expected.passes == {"clean": n, "corruptions": n * n_cells, "spectral": 2 * 2 * 3}
    assert "corrupting images comes on top" in str(expected)
    net.rows = 0
    evaluate(net, **given)
    # The first batch, and black images: one, and one more for another size of corrupted images.
    assert net.rows - sum(expected.passes.values()) == n + 2


def test_corruptions_made_here(
    net: Pooled, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the standard geometry, as the distributed ones; the entry says they are made here."""
    from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
    from iaside_plugins.adapters.robustbench_adapter import images as robustbench_images

    textures = [torch.zeros(230, 230, 3, dtype=torch.uint8).numpy() for _ in range(5)]
    monkeypatch.setattr(robustbench_images, "find_frost_textures", lambda _: Path())
    monkeypatch.setattr(robustbench_images, "load_frost_textures", lambda _: textures)
    with prepared(request(net, layout, corruptions_data_dir="generate", n_examples=2)) as ready:
        assert ready.images.settings["source"] == "generated"
        images, labels, ids = next(iter(ready.images.cell("contrast", 2, None)))
        ((expected, _, _),) = CorruptedData(list(ready.images.clean(None).records), "contrast", 2)
        assert torch.equal(images, expected)
        assert tuple(ids) == layout.names[:2]
        assert tuple(labels.tolist()) == layout.labels[:2]
        assert ready.images.cell(None, 0, None) is None
    monkeypatch.setattr(robustbench_images, "find_frost_textures", lambda _: None)
    with (
        pytest.raises(InputError, match="frost needs textures"),
        prepared(request(net, layout, corruptions_data_dir="generate")),
    ):
        pass


SCHEMAS = ("entry.schema.json", "stats.schema.json")
OTHERS = ("data-dictionary.md", "add.html", "evidence.html", "results-imagenet-c.csv")


def test_3d_entries_pass_the_boards_checks(net: Pooled, layout: Layout, tmp_path: Path) -> None:
    from iaside_plugins.entry.read import load_entries
    from iaside_plugins.leaderboard.build import board_files

    given = {k: v for k, v in vars(request(net, layout)).items() if k != "model"}
    given |= {
        "n_spectral": 2,
        "n_bands": 2,
        "show_progress": False,
        "entry_path": tmp_path,
        "reference_errors": "alexnet_robustbench_3dcc_5k",
        "threat_model": "corruptions_3d",
    }
    entry = evaluate(net, **given)
    entries = load_entries(tmp_path)
    assert [e.entry_id for e in entries] == [entry["entry_id"]]
    assert entry["corruption"]["missing"] == []
    assert entry["corruption"]["error_over_published"]["reference"].endswith("3dcc_5k")
    unnamed = {name for name, text in board_files(entries).items() if "Pooled" not in text}
    assert unnamed <= {*SCHEMAS, *OTHERS}
    broken = json.loads((tmp_path / f"{entry['entry_id']}.json").read_text())
    broken["benchmark"]["profiles"][0]["signed_score"] += 0.1
    (tmp_path / f"{entry['entry_id']}.json").write_text(json.dumps(broken))
    with pytest.raises(InputError, match="/benchmark/profiles/0/signed_score"):
        load_entries(tmp_path)
