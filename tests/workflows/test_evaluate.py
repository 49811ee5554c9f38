"""From a folder of images and a model to an entry: sources, plans, geometry, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from image_files import gathered, make_tree, random_pixels, save
from PIL import Image
from torch import nn

from iaside_plugins.adapters.foolbox_adapter import parse_attacks
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.corruptions.apply import corrupt, corruption_seed
from iaside_plugins.corruptions.frost import FROST_FILES
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.leaderboard.build import validate
from iaside_plugins.protocol import Protocol
from iaside_plugins.workflows.evaluate import evaluation_plan
from iaside_plugins.workflows.source import DataSource, is_grey, open_images, open_model

CLASSES = ("airplane", "frog")
SPEC = "python:tiny_model:"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("photographs"), CLASSES, n=1, height=240, width=300)


@pytest.fixture(scope="module")
def frost(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frost")
    for k, name in enumerate(FROST_FILES):
        save(folder / name, random_pixels(900 + k, 230, 230))
    return folder


def pixels_of(images):
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def by_hand(file, resize, crop):
    """Short side to `resize`, centre crop: as torchvision with Pillow."""
    image = Image.open(file).convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = tuple(resize if s == short else int(resize * s / short) for s in (width, height))
    image = image.resize(size, Image.Resampling.BILINEAR) if short != resize else image
    left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def test_models_of_128_pixels_are_corrupted_at_224_and_resized(photographs, frost):
    model = open_model(f"{SPEC}large_input")
    plan = evaluation_plan(
        DataSource(photographs, seed=4), model, generation=GenerationOptions(frost=frost)
    ).corruptions
    assert dict(plan.settings) == {
        "source": "generated",
        "size": 224,
        "constants": "224",
        "jpeg": True,
        "seed": 4,
    }
    file, name = photographs / "airplane" / "img_0.png", "airplane/img_0.png"
    at_224 = by_hand(file, 256, 224)
    images, _, _ = gathered(plan.images("contrast", 3))
    made = corrupt(
        np.array(at_224), "contrast", 3, seed=corruption_seed(4, name, "contrast", 3), jpeg=True
    )
    small = np.array(Image.fromarray(made).resize((128, 128), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels_of(images)[0], small)
    # Uncorrupted: the same geometry, no JPEG; not the model's own 144 and 128.
    plain, labels, ids = gathered(plan.images(None, 0))
    expected = np.array(at_224.resize((128, 128), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels_of(plain)[0], expected)
    clean, _, _ = gathered(open_images(DataSource(photographs), model))
    np.testing.assert_array_equal(pixels_of(clean)[0], np.array(by_hand(file, 144, 128)))
    assert ids == ["airplane/img_0.png", "frog/img_0.png"]
    assert labels.tolist() == [0, 6]


def test_models_of_32_pixels_are_corrupted_at_32_without_jpeg(photographs, frost):
    model = open_model(f"{SPEC}small_input")
    plan = evaluation_plan(
        DataSource(photographs), model, generation=GenerationOptions(frost=frost)
    ).corruptions
    assert (plan.settings["size"], plan.settings["constants"]) == (32, "32")
    assert plan.settings["jpeg"] is False
    assert plan.images(None, 0) is None  # the clean input itself
    images, _, _ = gathered(plan.images("fog", 2))
    name = "airplane/img_0.png"
    at_32 = np.array(by_hand(photographs / name, 32, 32))
    made = corrupt(at_32, "fog", 2, seed=corruption_seed(0, name, "fog", 2), jpeg=False)
    np.testing.assert_array_equal(pixels_of(images)[0], made)
    saved = evaluation_plan(
        DataSource(photographs), model, generation=GenerationOptions(frost=frost, jpeg=True)
    ).corruptions
    assert saved.settings["jpeg"] is True


def test_standard_224_models_need_no_second_clean_pass(photographs, frost):
    options = {"resize": 256, "crop": 224}
    plan = evaluation_plan(
        DataSource(photographs),
        open_model(f"{SPEC}network", **options),
        generation=GenerationOptions(frost=frost),
    ).corruptions
    assert plan.images(None, 0) is None
    assert plan.settings["size"] == 224
    bicubic = open_model(f"{SPEC}network", **options, interpolation="bicubic")
    assert evaluation_plan(
        DataSource(photographs), bicubic, generation=GenerationOptions(frost=frost)
    ).corruptions.images(None, 0)


def test_missing_textures_leave_frost_out(photographs, monkeypatch, caplog):
    monkeypatch.setattr(
        "iaside_plugins.adapters.imagenet.corruption_sets.find_frost_textures", lambda folder: None
    )
    plan = evaluation_plan(DataSource(photographs), open_model(f"{SPEC}small_input")).corruptions
    assert plan.missing == ("frost",)
    assert len(plan.names) == 14
    assert "14 of the 15" in caplog.text


def test_grey_models(photographs, frost):
    model = open_model(f"{SPEC}grey", resize=32, crop=32)
    assert is_grey(model)
    assert not is_grey(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    model_of_rows = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), model.info)
    model_of_rows.net.in_channels = 1
    assert is_grey(model_of_rows)
    plan = evaluation_plan(
        DataSource(photographs),
        model,
        generation=GenerationOptions(frost=frost),
        attacks=parse_attacks("fgsm", epsilons_linf=[0.1]),
    )
    for data in (plan.clean, plan.corruptions.images("snow", 1), plan.attacks.images):
        assert gathered(data)[0].shape == (2, 1, 32, 32)
    entry, _ = evaluate(model, plan, Protocol(n_bands=2))
    assert len(entry["corruption"]["conditions"]) == 75


def test_selections_are_nested_and_seeded(tmp_path):
    tree = make_tree(tmp_path, ("cat",), n=20, height=8, width=8)
    model = open_model(f"{SPEC}network")
    plan = evaluation_plan(
        DataSource(tree, n_images=12, seed=5),
        model,
        corruptions="none",
        n_spectral=5,
        n_attack=7,
        attacks=parse_attacks("fgsm"),
    )
    parts = [
        {r.image_id for r in data.records}
        for data in (plan.spectral, plan.attacks.images, plan.clean)
    ]
    assert [len(part) for part in parts] == [5, 7, 12]
    assert parts[0] < parts[1] < parts[2]
    assert plan.data["n_available"] == 20
    again = evaluation_plan(DataSource(tree, n_images=12, seed=5), model, corruptions="none")
    other = evaluation_plan(DataSource(tree, n_images=12, seed=6), model, corruptions="none")
    assert {r.image_id for r in again.clean.records} == parts[2]
    assert {r.image_id for r in other.clean.records} != parts[2]


@pytest.mark.parametrize("options", [{"n_spectral": 0}, {"n_attack": 0}])
def test_no_images_are_not_all_images(photographs, options):
    attacks = parse_attacks("fgsm")
    with pytest.raises(InputError, match="at least 1"):
        evaluation_plan(
            DataSource(photographs),
            open_model(f"{SPEC}small_input"),
            corruptions="none",
            attacks=attacks,
            **options,
        )


def test_no_images_are_not_all_images_of_a_source(photographs):
    with pytest.raises(InputError, match="at least 1"):
        open_images(DataSource(photographs, n_images=0), open_model(f"{SPEC}small_input"))


def test_labels_beyond_the_outputs(tmp_path):
    tree = make_tree(tmp_path, ("n01440764", "n15075141"), n=1)
    with pytest.raises(InputError, match=r"labels up to 999 .imagenet.*10 outputs"):
        open_images(DataSource(tree), open_model(f"{SPEC}network"))


def test_a_head_that_was_built_first_is_no_reason_to_refuse(photographs):
    """The outputs are those of the forward pass, not of the module that happens to be last."""
    model = open_model(f"{SPEC}head_first")
    data = open_images(DataSource(photographs), model)
    images, labels, _ = gathered(data)
    assert model(images).shape == (2, 10)
    assert labels.max() < 10


def test_name_and_training(photographs):
    model = open_model(f"{SPEC}network", name="mine", training="by hand", device="cpu")
    assert (model.info.name, model.info.training) == ("mine", "by hand")
    assert not model.training


def test_write_entry_checks_first(photographs, tmp_path):
    model = open_model(f"{SPEC}small_input")
    plan = evaluation_plan(DataSource(photographs), model, corruptions="none")
    entry, _ = evaluate(model, plan, Protocol(n_bands=2))
    path = write_entry(tmp_path, typed_entry(entry))
    assert path == tmp_path / f"{entry['entry_id']}.json"
    assert json.loads(path.read_text()) == entry
    assert validate([path]) == []
    wrong = {**entry, "clean_accuracy": {**entry["clean_accuracy"], "value": 0.123}}
    with pytest.raises(InputError, match="clean_accuracy"):
        write_entry(tmp_path / "wrong.json", typed_entry(wrong))
    assert not (tmp_path / "wrong.json").exists()


@pytest.mark.parametrize(
    ("name", "images", "n", "n_cells"),
    [("c10_resnet20", "cifar10", 6, 75), ("mcunet_5fps", "images", 2, 15)],
)
def test_real_models(kit, frost, tmp_path, monkeypatch, name, images, n, n_cells):
    """End to end; of the 224-pixel corruptions, which take a second an image, three."""
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    if n_cells == 15:
        monkeypatch.setattr(
            "iaside_plugins.adapters.imagenet.corruption_sets.CORRUPTIONS",
            ("brightness", "contrast", "pixelate"),
        )
    model = open_model(f"kit:{name}")
    plan = evaluation_plan(
        DataSource(kit / images, n_images=n, seed=1),
        model,
        generation=GenerationOptions(frost=frost),
        attacks=parse_attacks("fgsm,pgd", epsilons_linf=[2 / 255], steps=3),
        n_attack=2,
    )
    entry, result = evaluate(model, plan, Protocol(n_bands=4))
    group = entry["corruption"]
    assert len(group["conditions"]) == n_cells
    assert entry["model"]["name"] == name
    assert abs(result.efficiency_residual) < 1e-9  # float64 sums of 16 numbers of some nats
    if n_cells == 75:
        path = write_entry(tmp_path, typed_entry(entry))
        assert validate([path]) == []
        assert group["unnormalised_mean_error"]["n_corruptions"] == 15
    worst = entry["adversarial"]["worst_case"][0]["accuracy"]["value"]
    assert worst <= min(c["accuracy"]["value"] for c in entry["adversarial"]["attacks"])
    # The trained classifiers of the kit know most of these images.
    assert entry["clean_accuracy"]["value"] >= 0.5


def test_images_of_another_data_set_than_the_models_are_refused(kit, monkeypatch):
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    model = open_model("kit:mcunet_5fps", device="cpu")
    with pytest.raises(InputError, match=r"classifier of imagenet, the folders are .* of cifar10"):
        open_images(DataSource(kit / "cifar10"), model)


def test_shuffled_images_are_the_same_ones_in_another_order(kit, monkeypatch):
    """A run that may stop early must not see the first classes only."""
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    model = open_model("kit:c10_small_pgd", device="cpu")
    source = DataSource(kit / "cifar10", seed=3)
    plain = open_images(source, model)
    shuffled = open_images(source, model, shuffled=True)
    again = open_images(source, model, shuffled=True)
    assert [r.image_id for r in shuffled.records] == [r.image_id for r in again.records]
    assert {r.image_id for r in shuffled.records} == {r.image_id for r in plain.records}
    assert len({r.label for r in plain.records[:14]}) == 1
    assert len({r.label for r in shuffled.records[:14]}) > 4
