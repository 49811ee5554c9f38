"""The same files read otherwise: against plain loops over images, resumed, images left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from iaside_plugins.entry.build import mean, proportion
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import ConditionRunner, StoredRows
from iaside_plugins.evaluation.reading import ConditionStream, SharedReader, in_turn
from iaside_plugins.evaluation.systematic import SystematicPlan, SystematicRows
from iaside_plugins.stats.intervals import Z95
from iaside_plugins.value_table.progress import Progress

N, SIDE, CLASSES = 30, 6, 3
NAMES = ("pillow nearest", "opencv bilinear", "opencv decoder")
RNG = torch.Generator().manual_seed(0)
IMAGES = torch.rand(N, 3, SIDE, SIDE, generator=RNG)
LABELS = torch.randint(CLASSES, (N,), generator=RNG)
IDS = [f"image-{k}" for k in range(N)]


class Net(nn.Module):
    """Linear, with a count of the rows it saw."""

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(3 * SIDE * SIDE, CLASSES, generator=rng) / 2)
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        return (x - 0.5).flatten(1) @ self.weight


def read(name):
    if name == "opencv decoder":
        return IMAGES
    rng = torch.Generator().manual_seed(NAMES.index(name))
    return (IMAGES + 0.3 * torch.randn(IMAGES.shape, generator=rng)).clamp(0, 1)


def batches(images, left_out=(), size=7):
    kept = [k for k in range(N) if k not in left_out]
    return [
        (images[part], LABELS[part], [IDS[k] for k in part])
        for part in (kept[k : k + size] for k in range(0, len(kept), size))
    ]


def group_of(net, left_out=None, resume=None):
    lost = left_out or {}
    plan = SystematicPlan(
        "pillow bilinear",
        NAMES,
        lambda name: batches(read(name), lost.get(name, ())),
        ("other things (for a reason)",),
    )
    with Progress(None, False) as bar:
        runner = ConditionRunner(net, resume, bar)
        rows = SystematicRows(runner, plan)
        with StoredRows(runner.store):
            own = ConditionStream(batches(IMAGES), (rows.own,))
            list(SharedReader([own, *rows.streams], in_turn))
        return rows.group()


def answers(net, images):
    with torch.no_grad():
        logits = net(images).double()
    return logits.softmax(dim=1)[range(N), LABELS].numpy(), logits.argmax(dim=1).numpy()


def test_against_plain_loops(tmp_path):
    net = Net().eval()
    found = group_of(net, resume=tmp_path)
    p_own, own = answers(net, IMAGES)
    right = own == LABELS.numpy()
    assert found["n_images"] == N
    assert found["own_accuracy"] == proportion(right)
    assert [cell["condition"] for cell in found["conditions"]] == list(NAMES)
    rows = []
    for cell in found["conditions"]:
        p, other = answers(net, read(cell["condition"]))
        wrong = other != LABELS.numpy()
        rows.append(wrong.astype(float))
        lost = sum(bool(a and b) for a, b in zip(right, wrong, strict=True))
        gained = sum(bool(not a and not b) for a, b in zip(right, wrong, strict=True))
        assert (cell["n_lost"], cell["n_gained"]) == (lost, gained)
        assert cell["error"] == proportion(wrong)
        assert cell["changed"] == proportion(other != own)
        change = mean(np.abs(p - p_own))
        assert cell["probability_change"]["value"] == pytest.approx(change["value"], abs=1e-6)
        # By hand: differences of -1, 0 and 1, and half an image more that changed.
        values = [1.0] * lost + [-1.0] * gained + [0.0] * (N - lost - gained)
        centre = sum(values) / N
        spread = sum((v - centre) ** 2 for v in values) + 0.5
        half = Z95 * (spread / (N - 1) / N) ** 0.5
        assert cell["added"]["value"] == pytest.approx(centre)
        assert cell["added"]["interval"] == pytest.approx([centre - half, centre + half])
    assert min(sum(row) for row in rows[:2]) != sum(rows[2])  # something happens
    assert found["conditions"][2]["changed"]["value"] == 0  # and the decoder changes nothing
    assert found["conditions"][2]["probability_change"]["value"] == 0
    assert found["mean_error"] == mean(np.mean(rows, axis=0))
    errors = [cell["error"]["value"] for cell in found["conditions"]]
    assert found["mean_added"]["value"] == pytest.approx(np.mean(errors) - (1 - right.mean()))
    assert found["worst"] == NAMES[int(np.argmax(errors))]
    assert found["left_out"] == ["other things (for a reason)"]
    net.rows = 0
    again = group_of(net, resume=tmp_path)
    assert net.rows == 0  # all rows were stored
    assert repr(again) == repr(found)


def test_an_image_that_one_reading_lacks_is_left_out_of_all():
    net = Net().eval()
    found = group_of(net, left_out={"pillow nearest": (0, 8), "opencv decoder": (8, 29)})
    assert found["n_images"] == N - 3
    kept = [k for k in range(N) if k not in (0, 8, 29)]
    _, own = answers(net, IMAGES)
    assert found["own_accuracy"] == proportion((own == LABELS.numpy())[kept])
    everything = [found["mean_error"], found["mean_added"]]
    for cell in found["conditions"]:
        everything += [cell[name] for name in ("error", "added", "probability_change", "changed")]
    assert {part["n"] for part in everything} == {N - 3}
    with pytest.raises(InputError, match="no image can be read under every condition"):
        group_of(net, left_out={"pillow nearest": range(15), "opencv decoder": range(15, N)})
