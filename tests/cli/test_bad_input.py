"""Bad input: exit code 2, one line on stderr that says what to do, no traceback."""

from __future__ import annotations

import json

import pytest
import torch
from image_files import make_tree, random_pixels, save
from tiny_model import WATCH, network

MODEL = "python:tiny_model:network"
PLAIN = ("--corruptions", "none", "--attacks", "none")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--n-bands", 1), ["--n-bands must", "at least 2"]),
        (
            ("--n-bands", 13, "--protocol", "exact"),
            ["--n-bands 13", "8,192 forward passes", "estimator=permutation"],
        ),
        (("--n-images", 0), ["at least 1", "0"]),
        (("--n-images", -3), ["at least 1", "-3"]),
        (("--n-images", "many"), ["--n-images", "integer"]),
        (("--seed", -1), ["--seed must", "-1"]),
        (("--batch-size", 0), ["--batch-size must", "0"]),
        (("--workers", -1), ["--workers must", "-1"]),
        (("--precision", "half"), ["--precision must", "bfloat16", "half"]),
        (("--device", "cuda:99"), ["--device cuda:99", "GPU"]),
        (("--device", "gpu"), ["--device must", "auto, cpu or cuda", "gpu"]),
        (("--device", "meta"), ["auto, cpu or cuda", "meta"]),
        (("--protocol", "n_bands=4", "--n-bands", 3), ["'n_bands' of the protocol", "4 and 3"]),
        (("--protocol", "exact,permutation"), ["'estimator' of", "'exact' and 'permutation'"]),
        (("--protocol", "forwards=fast", "--forwards", "plain"), ["'forwards'", "fast", "plain"]),
        (("--protocol", "nope"), ["unknown protocol", "nope", "absence=gaussian,range_handling"]),
        (("--protocol", "bands=4"), ["unknown protocol field", "bands", "known: n_bands, band_"]),
        (("--protocol", "beta=1.5"), ["--protocol beta must", "1.5"]),
        (("--protocol", "beta=high"), ["beta", "high"]),
        (("--protocol", "temperature=Infinity"), ["temperature", "inf"]),
        (("--protocol", "n_bands=many"), ["--n-bands", "many"]),
        (("--protocol", "absence=nothing"), ["--protocol absence must", "replacement", "nothing"]),
        (("--protocol", "shuffled=true"), ["--protocol shuffled=True", " range_handling=batch"]),
        # a capital letter must not turn False into a true text
        (("--protocol", "reference,black_empty=False"), ["black_empty", "False"]),
        (("--labels", "guess"), ["--labels must", "rank", "guess"]),
        (("--labels", "rank", "--classes", "x"), ["--labels rank", "give --classes FILE"]),
        (("--target-error", -1), ["--target-error must", "-1"]),
        (("--classes", "no/file.txt"), ["no/file.txt"]),
        (("--weights", "no/file.pth"), ["no/file.pth"]),
        (("--interpolation", "best"), ["--interpolation must", "bicubic", "best"]),
        (("--crop", 64), ["crop of 64", "32"]),
        (("--mean", "half"), ["--mean must be numbers", "imagenet", "half"]),
        (("--mean", "0.1,0.2", "--std", "1,1"), ["(N, 2, H, W)", "3, 32, 32"]),
        (("--mean", "0.1,0.2", "--std", "1,1,1"), ["--mean 0.1,0.2 and --std 1,1,1 are of"]),
        (("--std", "0"), ["--std must be numbers above 0", "got 0"]),
        (("--colour", "red"), ["--colour"]),
    ],
)
def test_options(iaside, images, tmp_path, monkeypatch, arguments, fragments):
    monkeypatch.chdir(tmp_path)
    if "--n-bands" not in arguments and "n_bands" not in str(arguments):
        arguments = (*arguments, "--n-bands", 4)
    iaside("profile", MODEL, "--data", images, *arguments).refused(*fragments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_where_there_is_none(iaside, images):
    iaside("profile", MODEL, "--data", images, "--device", "cuda").refused("cuda", "0 CUDA GPUs")


@pytest.mark.parametrize(
    ("model", "fragments"),
    [
        ("network", ["network", "did you mean timm:network?", "timm:NAME", "python:"]),
        ("./net.pth", ["did you mean python:MODULE:FACTORY with --weights ./net.pth?"]),
        ("nets.py", ["did you mean python:nets:FACTORY?"]),
        ("./net.onnx", ["did you mean onnx:./net.onnx?"]),
        ("tim:resnet18", ["tim:resnet18", "timm:NAME"]),
        ("python:tiny_model", ["python:package.module:factory"]),
        ("python:no_such_module:f", ["no_such_module"]),
        ("python:tiny_model:netwrk", ["netwrk", "network"]),
        ("python:tiny_model:N_CLASSES", ["N_CLASSES", "function"]),
        ("python:tiny_model:no_network", ["torch.nn.Module", "str"]),
        ("python:tiny_model:nan_always", ["non-finite", "black image"]),
        (
            "python:tiny_model:nan_without_band_0",
            ["non-finite", "airplane/img_0.png", "coalition of bands [1]"],
        ),
        ("python:tiny_model:five_channels", ["3", "32", "channels"]),
    ],
)
def test_models(iaside, images, model, fragments):
    iaside("profile", model, "--data", images, "--n-bands", 4).refused(*fragments)


def test_an_option_of_another_command(iaside, images, tmp_path):
    arguments = ("evaluate", MODEL, "--data", images, "--out", tmp_path / "e.json")
    iaside(*arguments, "--severities", 3).refused("all five severities", "iaside explain")


def test_only_what_a_module_defines_is_known(iaside, images, tmp_path, monkeypatch):
    text = "import sys, torch\nfrom torch import nn\nS = 3\nclass Net(nn.Module): pass\n"
    (tmp_path / "known_nets.py").write_text(text + "def make(): return Net()\nnet = Net()\n")
    monkeypatch.chdir(tmp_path)
    run = iaside("profile", "python:known_nets:nofn", "--data", images)
    run.refused("known: Net, make, net\n")


def test_weights_that_do_not_fit(iaside, images, tmp_path):
    state = network().state_dict()
    extra = tmp_path / "extra.pth"
    torch.save({"another": torch.zeros(2), **state}, extra)
    arguments = ("profile", MODEL, "--data", images, "--weights")
    iaside(*arguments, extra).refused("extra.pth", "unexpected", "another")
    short = tmp_path / "short.pth"
    torch.save({name: value for name, value in state.items() if name != "head.bias"}, short)
    iaside(*arguments, short).refused("short.pth", "missing", "head.bias")
    shape = tmp_path / "shape.pth"
    torch.save(state, shape)
    iaside("profile", "python:tiny_model:wide", "--data", images, "--weights", shape).refused(
        "shape.pth", "first.weight", "(4, 3, 3, 3)", "(5, 3, 3, 3)"
    )
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(shape.read_bytes()[:500])
    iaside(*arguments, damaged).refused("damaged.pth")


def test_folders(iaside, images, tmp_path):
    iaside("profile", MODEL, "--data", tmp_path / "no").refused("no folder", str(tmp_path / "no"))
    (tmp_path / "empty").mkdir()
    iaside("profile", MODEL, "--data", tmp_path / "empty").refused("no images")
    iaside("profile", MODEL, "--data", images / "bird").refused("directly", "class folders")
    iaside("profile", MODEL).refused("--data")
    wnids = make_tree(tmp_path / "wnids", ("n01440764", "n99999999"), n=1)
    iaside("profile", MODEL, "--data", wnids).refused("n99999999", "imagenet")
    far = make_tree(tmp_path / "far", ("n01440764", "n15075141"), n=1)
    iaside("profile", MODEL, "--data", far).refused("999", "10 outputs", "--labels")
    sizes = make_tree(tmp_path / "sizes", ("bird",), n=1, height=32, width=32)
    save(sizes / "cat" / "wide.png", random_pixels(1, 32, 40))
    iaside("profile", MODEL, "--data", sizes).refused("one size", "cat/wide.png", "crop")


def test_truncated_image(iaside, images, tmp_path):
    tree = make_tree(tmp_path / "tree", ("bird",), n=3, height=32, width=32)
    whole = tree / "bird" / "img_1.png"
    whole.write_bytes(whole.read_bytes()[:900])
    iaside("profile", MODEL, "--data", tree).refused("1 of 3", "more than 1 %", "bird/img_1.png")


@pytest.mark.parametrize(
    "option",
    ["--json", "--save", "--plot", "--resume", "--out"],
)
def test_output_below_a_file(iaside, images, tmp_path, option):
    blocked = tmp_path / "a_file"
    blocked.write_text("not a folder")
    command: tuple[object, ...] = ("profile", MODEL, "--data", images, "--n-bands", 3)
    if option == "--out":
        command = ("evaluate", *command[1:], *PLAIN)
    suffix = {"--json": ".json", "--save": ".npz", "--plot": ".png"}.get(option, ".json")
    WATCH.rows = 0
    iaside(*command, option, blocked / f"x{suffix}").refused("cannot write", "a_file")
    assert WATCH.rows == 0  # told before the work, not after it


def test_json_into_a_folder_or_nowhere(iaside, images, tmp_path):
    arguments = ("profile", MODEL, "--data", images, "--n-bands", 2, "--json")
    iaside(*arguments, tmp_path).refused("cannot write")
    iaside(*arguments, "").refused("cannot write")


def test_plot_of_an_unknown_format_is_refused_before_the_work(iaside, images, tmp_path):
    WATCH.rows = 0
    arguments = ("--n-bands", 3, "--plot", tmp_path / "p.txt")
    iaside("profile", MODEL, "--data", images, *arguments).refused("p.txt", ".png")
    assert WATCH.rows == 0


def test_protocol_files_that_are_none(iaside, images, tmp_path):
    arguments = ("profile", MODEL, "--data", images, "--protocol")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    iaside(*arguments, broken).refused("broken.json", "JSON")
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([1, 2]))
    iaside(*arguments, listed).refused("list.json")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--attacks", "fgsm,cw"), ["cw", "pgd_l2"]),
        (("--attacks", "fgsm", "--epsilons", "2/0"), ["2/0", "8/255"]),
        (("--attacks", "fgsm", "--epsilons", "two"), ["two", "8/255"]),
        (("--attacks", "fgsm", "--epsilons", "8"), ["fgsm", "pixel units"]),
        (("--attacks", "pgd", "--attack-steps", "0"), ["steps", "0"]),
        (("--n-attack", "0", "--attacks", "fgsm"), ["at least 1"]),
        (("--n-spectral", "0", "--attacks", "none"), ["at least 1"]),
        (("--attacks", "none", "--reference", "alexnet"), ["--reference", "corruptions"]),
        (("--attacks", "fgsm", "--check-temperatures"), ["--check-temperatures", "--attacks pgd"]),
        (("--attacks", "none", "--precision", "half"), ["precision", "bfloat16"]),
        (("--attacks", "none", "--dataset", "my photographs"), ["my photographs"]),
        (("--attacks", "none", "--note", "from /home/someone"), ["/home/someone"]),
    ],
)
def test_evaluate_is_refused_before_the_work(iaside, images, tmp_path, arguments, fragments):
    command = ("evaluate", MODEL, "--data", images, "--out", tmp_path / "e.json")
    WATCH.rows = 0
    iaside(*command, "--corruptions", "none", "--n-bands", 3, *arguments).refused(*fragments)
    assert WATCH.rows <= 1  # at most the black image of the empty coalition
    assert not (tmp_path / "e.json").exists()


def test_images_too_small_for_the_bands(iaside, tmp_path):
    small = make_tree(tmp_path / "small", ("bird",), n=2, height=16, width=20)
    arguments = ("--data", small, "--n-bands", 9)
    message = ("16 x 20", "too small", "--n-bands 9", "18", "--n-bands <= 8")
    iaside("profile", MODEL, *arguments).refused(*message)
    WATCH.rows = 0
    iaside("evaluate", MODEL, *arguments, *PLAIN, "--out", tmp_path / "e.json").refused(*message)
    assert WATCH.rows == 0  # known before anything else is evaluated


def test_corruptions_that_are_not_there(iaside, images, tmp_path):
    command = ("evaluate", MODEL, "--data", images, "--out", tmp_path / "e.json")
    command = (*command, "--attacks", "none")
    iaside(*command, "--corruptions", tmp_path).refused("none of the 15", "generate")
    iaside(*command, "--corruptions", "generated").refused("no such folder", "generate", "fog")
    iaside(*command, "--frost", tmp_path).refused("frost1.png", "imagecorruptions")
    iaside(*command, "--reference", "alexnet").refused("alexnet", "alexnet_hendrycks_50k")
    iaside(*command, "--reference", images / "bird" / "img_0.png").refused("is not an entry")


def test_nan_in_evaluate_names_the_image(iaside, images, tmp_path):
    command = ("evaluate", "python:tiny_model:nan_always", "--data", images, *PLAIN)
    iaside(*command, "--out", tmp_path / "e.json").refused("non-finite")
    assert not (tmp_path / "e.json").exists()


def test_a_missing_gradient_is_told_before_the_work(iaside, images, tmp_path):
    common = ("--data", images, "--corruptions", "none", "--n-bands", 3, "--attacks", "fgsm")
    for command in (
        ("evaluate", "python:tiny_model:detached", "--out", tmp_path / "e.json"),
        ("spectrum", "--model", "python:tiny_model:detached"),
    ):
        WATCH.rows = 0
        iaside(*command, *common).refused("the model gives none", "detach", "--attacks none")
        assert WATCH.rows <= 3  # black images of checks, and two to try


def test_unknown_commands(iaside):
    iaside("profil").refused("profil")
    iaside("profile").refused("MODEL")
    iaside("leaderboard").refused("command")
    iaside("leaderboard", "publish").refused("publish")


def test_named_corruptions_are_made_here_too(iaside, images, tmp_path):
    arguments = ("evaluate", MODEL, "--data", images, "--out", tmp_path / "e.json", "--no-jpeg")
    arguments += ("--attacks", "none", "--n-bands", 2, "--dry-run")
    assert iaside(*arguments, "--corruptions", "fog").code == 0
    iaside(*arguments, "--corruptions", "none").refused("--jpeg needs corruptions that are made")
