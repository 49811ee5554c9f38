"""AutoAttack over a stream: the library's own images, seeds, files, and nothing left behind."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("pyautoattack") is None:
    pytest.skip("pyautoattack is not installed (extra robustbench)", allow_module_level=True)
from robustbench_layout import Pooled, fitted
from torch import Tensor

from iaside_plugins.adapters.compat import import_pyautoattack
from iaside_plugins.adapters.robustbench_adapter.autoattack import (
    AttackedImages,
    AutoAttackSpec,
    run_autoattack,
)
from iaside_plugins.entry.build import STANDARD
from iaside_plugins.errors import InputError, InputTypeError

pytestmark = pytest.mark.usefixtures("quick_attacks")
EPS = 3 / 255
FAST = AutoAttackSpec("Linf", (EPS,), ("apgd-ce", "apgd-t"))


@pytest.fixture(scope="module")
def data() -> tuple[Pooled, Tensor, Tensor]:
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    y = torch.arange(8) + 1
    net = fitted(x, y, 10, brittle=1.0)
    y[0] = 9  # one image is misclassified from the start
    return net, x, y


class Detached(Pooled):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


def batches(x: Tensor, y: Tensor, size: int = 4) -> list[tuple[Tensor, Tensor, list[str]]]:
    return [
        (x[k : k + size], y[k : k + size], [f"image {i}" for i in range(k, min(k + size, len(x)))])
        for k in range(0, len(x), size)
    ]


def run(net: Pooled, x: Tensor, y: Tensor, folder: Path, **options: object):
    options = {"spec": FAST, "epsilon": EPS, "seed": 0, "batch_size": 3, **options}
    return run_autoattack(
        net, batches(x, y), options.pop("spec"), options.pop("epsilon"), folder=folder, **options
    )


def written(folder: Path) -> dict[Path, int]:
    """The batches on disk, with when they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("*/*.npz")}


def images(found, x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([batch for batch, _, _ in AttackedImages(batches(x, y), found)])


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", EPS), ("L2", 0.2)])
def test_the_librarys_own_images(data, tmp_path: Path, norm: str, epsilon: float) -> None:
    """Several batches of survivors, whatever the batches of the stream."""
    net, x, y = data
    if norm == "L2":  # its projections are slow
        x, y = x[:4], y[:4]
    spec = AutoAttackSpec(norm, (epsilon,))
    found = run(net, x, y, tmp_path, spec=spec, epsilon=epsilon)
    library = import_pyautoattack()
    attack = library.AutoAttack(net, norm=norm, eps=epsilon, seed=0, version="standard")
    expected, predicted = attack.run_standard_evaluation(x, y, batch_size=3)
    ours = images(found, x, y)
    assert torch.equal(ours, expected)
    accuracy = float((predicted == y).float().mean())
    assert found.accuracy_after["square"] == accuracy
    assert list(found.accuracy_after) == ["clean", *STANDARD]
    assert found.accuracy_after["clean"] == 1 - 1 / len(x)
    assert 0 < accuracy <= found.accuracy_after["apgd-ce"] < found.accuracy_after["clean"]
    if norm == "Linf":  # a later attack finds what the first did not
        assert accuracy < found.accuracy_after["apgd-ce"]
    distance = (ours - x).flatten(1)
    size = distance.abs().amax(1) if norm == "Linf" else distance.norm(dim=1)
    assert float(size.max()) <= epsilon + 1e-6
    assert float(size.max()) > epsilon / 2
    assert float(ours.min()) >= 0
    assert float(ours.max()) <= 1
    assert torch.equal(ours[0], x[0])  # wrong already: left alone


def test_seeded_and_kept(data, tmp_path: Path) -> None:
    net, x, y = data
    first = run(net, x, y, tmp_path / "a")
    again = run(net, x, y, tmp_path / "b")
    assert torch.equal(images(first, x, y), images(again, x, y))
    assert len(written(tmp_path / "a")) == len(written(tmp_path / "b")) > 4
    run(net, x, y, tmp_path / "a", seed=1)  # beside the first one, not instead of it
    rows, before = net.rows, written(tmp_path / "a")
    kept = run(net, x, y, tmp_path / "a")
    assert net.rows == rows
    assert written(tmp_path / "a") == before
    assert kept.accuracy_after == first.accuracy_after
    assert torch.equal(images(kept, x, y), images(first, x, y))


def test_seeds_draw_otherwise(data, tmp_path: Path) -> None:
    """RobustBench gives AutoAttack no seed (D8), and the time decides."""
    net, x, y = data
    spec = AutoAttackSpec("Linf", (8 / 255,), ("square",))
    found = [
        run(net, x, y, tmp_path, spec=spec, epsilon=8 / 255, seed=seed, batch_size=8)
        for seed in (0, 1)
    ]
    first, other = (images(one, x, y) for one in found)
    assert not torch.equal(first, x)
    assert not torch.equal(first, other)


def test_copies_of_an_image_fall_together(data, tmp_path: Path) -> None:
    """Each draws its own random numbers, and what fools the model is one image for all."""
    net, x, y = data
    x, y = x[[1] * 8 + [2]], y[[1] * 8 + [2]]
    spec = AutoAttackSpec("Linf", (4 / 255,), ("square",))
    options = {"spec": spec, "epsilon": 4 / 255, "batch_size": 4}
    alone = run(net, x[:4], y[:4], tmp_path, **options)
    assert alone.places  # of four copies at least one falls
    found = run(net, x, y, tmp_path, **options)
    left = net(images(found, x, y)).argmax(dim=1) == y
    assert left.tolist() == [False] * 8 + [True]
    assert found.accuracy_after["square"] == pytest.approx(1 / 9)


def test_a_damaged_file_is_computed_again(data, tmp_path: Path) -> None:
    net, x, y = data
    first = run(net, x, y, tmp_path)
    file = sorted(tmp_path.glob("*/apgd-ce-*.npz"))[0]
    before = written(tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    again = run(net, x, y, tmp_path)
    after = written(tmp_path)
    assert {path for path in after if after[path] != before.get(path)} == {file}
    assert file.stat().st_size > 100
    assert torch.equal(images(again, x, y), images(first, x, y))


@pytest.mark.parametrize(
    "change", [{"epsilon": 1 / 255}, {"spec": AutoAttackSpec("L2", (EPS,), ("apgd-ce",))}]
)
def test_another_run_takes_nothing_from_this_one(data, tmp_path: Path, change) -> None:
    net, x, y = data
    run(net, x, y, tmp_path, spec=AutoAttackSpec("Linf", (EPS,), ("apgd-ce",)))
    before = written(tmp_path)
    run(net, x, y, tmp_path, **{"spec": AutoAttackSpec("Linf", (EPS,), ("apgd-ce",)), **change})
    assert len(written(tmp_path)) >= len(before) + 4


def test_nothing_is_left_behind(data, tmp_path: Path) -> None:
    net, x, y = data
    net.zero_grad()
    torch.manual_seed(5)
    state, trace = torch.get_rng_state(), sys.gettrace()
    with torch.no_grad():
        run(net, x, y, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.gettrace() is trace
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not net.training


@pytest.mark.parametrize(
    ("norm", "epsilons", "attacks", "message"),
    [
        ("L1", (EPS,), None, "'Linf' or 'L2', got 'L1'"),
        ("Linf", (8.0,), None, r"got \[8.0\]"),
        ("Linf", (0.0,), None, r"got \[0.0\]"),
        ("L2", (float("nan"),), None, r"got \[nan\]"),
        ("Linf", (), None, "got none"),
        ("Linf", (EPS,), ("pgd",), r"got \['pgd'\]"),
        ("Linf", (EPS,), (), "got none"),
        ("Linf", (EPS, EPS), None, "different budgets"),
        ("Linf", (EPS,), ("fab", "fab"), "different attacks"),
    ],
)
def test_specs_that_are_refused(norm, epsilons, attacks, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoAttackSpec(norm, epsilons, attacks)


def test_models_and_images_that_are_refused(data, tmp_path: Path) -> None:
    net, x, y = data
    with pytest.raises(InputError, match="at least 10 classes, the model has 4"):
        run(Pooled(4).eval(), x, y % 4, tmp_path / "a")
    dlr = AutoAttackSpec("Linf", (EPS,), ("apgd-dlr",))
    with pytest.raises(InputError, match="apgd-dlr needs at least 3 classes, the model has 2"):
        run(Pooled(2).eval(), x, y % 2, tmp_path / "a", spec=dlr)
    with pytest.raises(InputError, match="labels go up to 9"):
        run(Pooled(4).eval(), x, y, tmp_path / "b")
    with pytest.raises(InputError, match=r"call model\.eval"):
        run(Pooled(10), x, y, tmp_path / "c")
    with pytest.raises(InputTypeError, match=r"torch\.nn\.Module"):
        run(lambda images: images.flatten(1)[:, :10], x, y, tmp_path / "d")
    with pytest.raises(InputError, match="the model gives none"):
        run(Detached(10).eval(), x, y, tmp_path / "g")
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        run(net, 2 * x, y, tmp_path / "e")
    with pytest.raises(InputError, match="no images"):
        run_autoattack(net, [], FAST, EPS, seed=0, batch_size=3, folder=tmp_path / "f")


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("form", [lambda out: {"logits": out}, lambda out: (out, out.sum())])
def test_logits_in_a_mapping_or_a_tuple(data, tmp_path: Path, norm: str, form, caplog) -> None:
    class Wrapped(Pooled):
        def forward(self, x: Tensor) -> Tensor:
            return form(super().forward(x))

    net, x, y = data
    wrapped = Wrapped(10).eval()
    wrapped.load_state_dict(net.state_dict())
    spec = AutoAttackSpec(norm, (EPS,), ("apgd-ce",))
    plain, found = (
        run(one, x, y, tmp_path / name, spec=spec) for name, one in (("a", net), ("b", wrapped))
    )
    assert found.accuracy_after == plain.accuracy_after
    assert torch.equal(images(found, x, y), images(plain, x, y))
    assert sum("taken as the logits" in one.getMessage() for one in caplog.records) == 1


def test_outputs_without_logits_are_refused(data, tmp_path: Path) -> None:
    class Other(Pooled):
        def forward(self, x: Tensor) -> Tensor:
            return {"scores": super().forward(x)}

    with pytest.raises(InputError, match="'scores' and no tensor 'logits'"):
        run(Other(10).eval(), *data[1:], tmp_path)


def test_masked_gradients_are_said(data, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the Square attack, which needs no gradients, gets through quantised images."""

    class Masked(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((images * 60).round() / 60 + 0 * images)

    net, x, y = data
    masked = Masked(10).eval()
    masked.load_state_dict(net.state_dict())
    y = masked(x).argmax(1)
    spec = AutoAttackSpec("Linf", (8 / 255,), ("apgd-ce", "square"))
    found = run(masked, x[:3], y[:3], tmp_path, spec=spec, epsilon=8 / 255)
    assert found.accuracy_after["square"] < found.accuracy_after["apgd-ce"]
    assert any("gradients may be masked" in record.getMessage() for record in caplog.records)
