"""`iaside evaluate`: an entry that the board takes, from generated or distributed corruptions."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import make_tree, random_pixels, save
from PIL import Image
from tiny_model import large_input

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS, CORRUPTIONS
from iaside_plugins.corruptions.error_rates import mean_corruption_error

MODEL = "python:tiny_model:network"
BANDS = ("--n-bands", 3)
FAST = (*BANDS, "--attack-steps", 2)
PLAIN = ("--corruptions", "none", "--attacks", "none")


def errors_of(entry):
    found: dict[str, list[float]] = {}
    for cell in entry["corruption"]["conditions"]:
        found.setdefault(cell["corruption"], []).append(cell["error"]["value"])
    return found


@pytest.fixture
def first(iaside, images, frost, tmp_path):
    """One whole entry: 15 corruptions made here, two attacks."""
    out = tmp_path / "first.json"
    run = iaside(
        "evaluate",
        MODEL,
        "--data",
        images,
        *FAST,
        "--frost",
        frost,
        "--out",
        out,
        "--epsilons",
        "2/255,0.1",
        "--json",
        tmp_path / "copy.json",
    )
    assert run.code == 0, run.err
    assert run.err == ""
    return run, out


def test_whole_entry(iaside, first, images, tmp_path):
    run, out = first
    entry = json.loads(out.read_text())
    assert json.loads((tmp_path / "copy.json").read_text()) == entry
    assert f"entry written to {out}" in " ".join(run.out.split())
    assert list(errors_of(entry)) == list(CORRUPTIONS)
    assert entry["corruption"]["missing"] == []
    assert entry["corruption"]["mce"] is None
    assert "over 15 of 15 corruptions (unnormalised, not an mCE)" in run.out
    cells = [(cell["name"], cell["epsilon"]) for cell in entry["adversarial"]["attacks"]]
    assert cells == [(n, e) for n in ("fgsm", "pgd") for e in (2 / 255, 0.1)]
    assert [cell["steps"] for cell in entry["adversarial"]["attacks"]] == [None, None, 2, 2]
    assert "worst case Linf eps 2/255" in run.out
    assert "eps 0.1 " in run.out
    assert entry["data"]["n_images"] == entry["data"]["n_available"] == 6
    checked = iaside("leaderboard", "validate", out)
    assert (checked.code, checked.out) == (0, "1 valid\n")
    assert not list((tmp_path / "cache").rglob("*.npz"))  # nothing unfinished is left


def test_reference_entry_makes_an_mce(iaside, first, images, frost, tmp_path):
    _, reference = first
    arguments = ("evaluate", MODEL, "--data", images, *BANDS, "--frost", frost)
    arguments = (*arguments, "--attacks", "none", "--out", tmp_path / "again.json")
    own = iaside(*arguments, "--reference", reference, "--json", "-")
    mce = json.loads(own.out)["corruption"]["mce"]
    errors = errors_of(json.loads(reference.read_text()))
    # its own errors: exactly 1
    assert mce == {"value": 1.0, "reference": "network", "reference_errors": errors}
    other = iaside(
        *arguments, "--crop", 28, "--name", "cropped", "--reference", reference, "--json", "-"
    )
    other.refused("other images", "size")
    fewer = iaside(*arguments, "--n-images", 4, "--reference", reference)
    fewer.refused("other images", "same images, --n-images, --seed")
    seed = iaside(*arguments, "--seed", 1, "--reference", reference)
    seed.refused("other images", "seed")
    entry = json.loads(reference.read_text())
    wide = ("python:tiny_model:wide", *arguments[2:], "--reference", reference, "--json", "-")
    found = json.loads(iaside("evaluate", *wide).out)
    expected = mean_corruption_error(errors_of(found), errors_of(entry))
    assert found["corruption"]["mce"]["value"] == pytest.approx(expected, rel=1e-12)
    assert iaside("leaderboard", "validate", tmp_path / "again.json").code == 0


def test_reference_that_makes_no_mce_is_refused_before_the_work(
    iaside, first, images, frost, tmp_path
):
    _, path = first
    entry = json.loads(path.read_text())
    arguments = ("evaluate", MODEL, "--data", images, *BANDS, "--frost", frost)
    arguments = (*arguments, "--attacks", "none", "--out", tmp_path / "e.json", "--reference")
    from tiny_model import WATCH

    conditions = entry["corruption"]["conditions"]
    lacking = [cell for cell in conditions if cell["corruption"] != "frost"]
    perfect = [
        {**cell, "error": {**cell["error"], "value": 0.0}} if cell["corruption"] == "fog" else cell
        for cell in conditions
    ]
    for cells, name in ((lacking, "frost"), (perfect, "fog")):
        entry["corruption"]["conditions"] = cells
        path.write_text(json.dumps(entry))
        WATCH.rows = 0
        iaside(*arguments, path).refused(name)
        assert WATCH.rows == 0


def test_published_tables_are_for_imagenet_at_224_only(iaside, images, frost, tmp_path):
    from tiny_model import WATCH

    WATCH.rows = 0
    arguments = ("evaluate", MODEL, "--data", images, *BANDS, "--frost", frost, "--attacks", "none")
    for table, reason in (
        ("alexnet_hendrycks_50k", "holds errors on ImageNet at 224 pixels"),
        ("alexnet_robustbench_3dcc_5k", "not a table of the 15 corruptions"),
    ):
        iaside(*arguments, "--reference", table, "--out", tmp_path / "e.json").refused(reason)
    assert WATCH.rows == 0


def test_clean_and_spectral_only(iaside, images, tmp_path):
    run = iaside(
        "evaluate",
        MODEL,
        "--data",
        images,
        "--n-bands",
        3,
        *PLAIN,
        "--out",
        tmp_path / "e.json",
        "--n-images",
        5,
        "--n-spectral",
        2,
        "--name",
        "Mine (v2)",
        "--training",
        "by hand",
        "--dataset",
        "toys",
        "--note",
        "uniform noise",
        "--seed",
        3,
        "--json",
        "-",
        "--save",
        tmp_path / "r.npz",
        "--plot",
        tmp_path / "p.svg",
    )
    entry = json.loads(run.out)
    assert entry == json.loads((tmp_path / "e.json").read_text())
    assert entry["corruption"] is None
    assert entry["adversarial"] is None
    assert entry["data"] == {
        "name": "toys",
        "n_available": 6,
        "n_images": 5,
        "n_unreadable": 0,
        "seed": 3,
        "note": "uniform noise",
        "image_ids_sha256": entry["data"]["image_ids_sha256"],
    }
    assert entry["spectral"]["n_images"] == 2
    assert entry["model"]["name"] == "Mine (v2)"
    assert entry["model"]["training"] == "by hand"
    assert entry["entry_id"].startswith("toys--Mine-v2--m3-chebyshev-zero-exact-")
    assert iaside("leaderboard", "validate", tmp_path / "e.json").code == 0
    assert (tmp_path / "r.npz").is_file()
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_attacks_of_both_norms_on_a_part(iaside, images, tmp_path):
    run = iaside(
        "evaluate",
        MODEL,
        "--data",
        images,
        *FAST,
        "--corruptions",
        "none",
        "--attacks",
        "fgm,pgd_l2,fgsm",
        "--epsilons-l2",
        "0.25,1",
        "--epsilons",
        "0.03",
        "--n-attack",
        4,
        "--out",
        tmp_path / "e.json",
        "--json",
        "-",
    )
    group = json.loads(run.out)["adversarial"]
    assert group["n_images"] == 4
    worst = [(c["norm"], c["epsilon"], c["attacks"]) for c in group["worst_case"]]
    assert worst == [
        ("L2", 0.25, ["fgm", "pgd_l2"]),
        ("L2", 1.0, ["fgm", "pgd_l2"]),
        ("Linf", 0.03, ["fgsm"]),
    ]


def test_a_budget_named_twice_counts_once(iaside, images, tmp_path):
    run = iaside(
        "evaluate",
        MODEL,
        "--data",
        images,
        "--n-bands",
        2,
        "--corruptions",
        "none",
        "--attacks",
        "fgsm",
        "--epsilons",
        "0.1,0.1,25.5/255",
        "--out",
        tmp_path / "e.json",
        "--json",
        "-",
    )
    assert run.code == 0, run.err
    assert [c["epsilon"] for c in json.loads(run.out)["adversarial"]["attacks"]] == [0.1]


def test_out_may_be_a_folder(iaside, images, tmp_path):
    run = iaside("evaluate", MODEL, "--data", images, "--n-bands", 3, *PLAIN, "--out", tmp_path)
    (written,) = tmp_path.glob("*.json")
    assert written.stem == json.loads(written.read_text())["entry_id"]
    assert f"entry written to {written}" in " ".join(run.out.split())


def test_without_frost_there_is_no_mce(iaside, images, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(
        "iaside_plugins.adapters.imagenet.corruption_sets.find_frost_textures", lambda folder: None
    )
    run = iaside(
        "evaluate",
        MODEL,
        "--data",
        images,
        *BANDS,
        "--attacks",
        "none",
        "--out",
        tmp_path / "e.json",
    )
    entry = json.loads((tmp_path / "e.json").read_text())
    assert list(errors_of(entry)) == [name for name in CORRUPTIONS if name != "frost"]
    assert entry["corruption"]["missing"] == ["frost"]
    assert entry["corruption"]["mce"] is entry["corruption"]["error_over_published"] is None
    assert "14 of 15 corruptions" in run.out
    assert "not evaluated: frost" in run.out
    assert "imagecorruptions" in caplog.text
    assert iaside("leaderboard", "validate", tmp_path / "e.json").code == 0


def test_kept_corrupted_images_change_nothing(iaside, images, frost, tmp_path):
    arguments = ("evaluate", MODEL, "--data", images, *BANDS, "--frost", frost, "--attacks", "none")
    arguments = (*arguments, "--n-images", 2, "--out", tmp_path / "e.json", "--json", "-")
    plain = json.loads(iaside(*arguments).out)["corruption"]
    made = json.loads(iaside(*arguments, "--cache", tmp_path / "kept").out)["corruption"]
    read = json.loads(iaside(*arguments, "--cache", tmp_path / "kept").out)["corruption"]
    assert plain == made == read
    assert len(list((tmp_path / "kept").rglob("*.png"))) == 2 * 75


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """Clean photographs of 300 x 260, and an ImageNet-C of 224 x 224 made from other noise."""
    root = tmp_path_factory.mktemp("distributed")
    clean = make_tree(root / "clean", ("bird", "cat"), n=2, height=260, width=300)
    names = [path.relative_to(clean) for path in sorted(clean.rglob("*.png"))]
    for severity in range(1, 6):
        for k, name in enumerate(names):
            # One file a severity, linked under all 15 names: only severities differ.
            made = save(
                (root / "made" / str(severity) / name).with_suffix(".JPEG"),
                random_pixels(10 * severity + k, 28, 28).repeat(8, axis=0).repeat(8, axis=1),
            )
            for corruption in CORRUPTIONS:
                target = root / "flat" / corruption / str(severity) / name.with_suffix(".JPEG")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(made, target)
    for corruption, group in CORRUPTION_GROUPS.items():
        shutil.copytree(
            root / "flat" / corruption, root / "grouped" / group / corruption, copy_function=os.link
        )
    return root


def _large(iaside, tree, corruptions, out, *more):
    run = iaside(
        "evaluate",
        "python:tiny_model:large_input",
        "--data",
        tree,
        "--corruptions",
        corruptions,
        "--attacks",
        "none",
        "--n-bands",
        2,
        "--out",
        out,
        "--json",
        "-",
        *more,
    )
    assert run.code == 0, run.err
    return json.loads(run.out)


def test_distributed_tree_flat_and_grouped(iaside, distributed, tmp_path):
    out = tmp_path / "e.json"
    entry = _large(iaside, distributed / "clean", distributed / "flat", out)
    assert iaside("leaderboard", "validate", out).code == 0
    grouped = _large(iaside, distributed / "clean", distributed / "grouped", out)
    group = entry["corruption"]
    assert grouped["corruption"] == group
    assert group["source"] == "distributed"
    assert (group["size"], group["constants"], group["jpeg"]) == (224, "224", True)
    # By hand: files of 224 x 224, resized to the model's 128, labels by CIFAR-10's order.
    net = large_input().eval()
    label = {"bird": 2, "cat": 3}
    for cell in group["conditions"]:
        folder = distributed / "flat" / cell["corruption"] / str(cell["severity"])
        wrong = []
        for path in sorted(folder.rglob("*.JPEG")):
            small = Image.open(path).convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)
            x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255
            wrong.append(int(net(x).argmax()) != label[path.parent.name])
        assert cell["error"]["value"] == np.mean(wrong)
        if cell["corruption"] == CORRUPTIONS[2]:
            break  # all 15 hold the same files


def test_distributed_tree_that_lacks_corruptions(iaside, distributed, tmp_path, caplog):
    part = tmp_path / "part"
    for corruption in ("fog", "snow"):
        shutil.copytree(distributed / "flat" / corruption, part / corruption, copy_function=os.link)
    entry = _large(iaside, distributed / "clean", part, tmp_path / "e.json")
    assert list(errors_of(entry)) == ["snow", "fog"]
    assert len(entry["corruption"]["missing"]) == 13
    assert "gaussian_noise" in caplog.text
    shutil.rmtree(part / "fog" / "3")
    entry = _large(iaside, distributed / "clean", part, tmp_path / "e.json")
    assert list(errors_of(entry)) == ["snow"]
    (part / "snow" / "2" / "bird" / "img_0.JPEG").unlink()
    run = iaside(
        "evaluate",
        "python:tiny_model:large_input",
        "--data",
        distributed / "clean",
        "--corruptions",
        part,
        "--attacks",
        "none",
        "--out",
        Path(tmp_path, "f.json"),
    )
    run.refused("1 of 4 images", "bird/img_0.png")


def test_systematic_noise(iaside, images, tmp_path):
    pytest.importorskip("cv2")
    out = tmp_path / "e.json"
    model = ("evaluate", "python:tiny_model:small_input", "--resize", 24, "--crop", 20)
    run = iaside(*model, "--data", images, "--n-bands", 3, *PLAIN, "--systematic", "--out", out)
    assert run.code == 0, run.err
    group = json.loads(out.read_text())["systematic"]
    assert len(group["conditions"]) == 10
    assert "systematic noise: the same files read otherwise (6 images" in run.out
    assert "left out: opencv decoder" in run.out
    assert iaside("leaderboard", "validate", out).code == 0
    refused = iaside(
        "evaluate", MODEL, "--data", images, *PLAIN, "--systematic", "--out", tmp_path / "f.json"
    )
    refused.refused("nothing to vary", "takes images as they are")
    assert not (tmp_path / "f.json").exists()
