"""Two models until their difference is known: the same images, the same numbers, where to stop."""

from __future__ import annotations

import io

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import (
    InputError,
    Protocol,
    SpectralImportance,
    compare,
    paired_importance,
    spectral_importance,
)
from iaside_plugins.importance.chance import chance_warning
from iaside_plugins.importance.result import OPTIONAL
from iaside_plugins.importance.stopping import CHECK_EVERY, MIN_IMAGES, Stopping, check_points

NETS = oracles.TinyNet(), oracles.TinyNet(seed=1)


def _data(n: int = 160) -> list[tuple]:
    images, labels = oracles.sample(n, (8, 8))
    names = [f"image-{k}" for k in range(n)]
    return [(images[k : k + 7], labels[k : k + 7], names[k : k + 7]) for k in range(0, n, 7)]


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(3),
        Protocol(3, absence="gaussian"),
        Protocol(4, estimator="permutation"),
        Protocol(5, estimator="regression", n_coalitions=32),
    ],
    ids=lambda p: f"{p.absence}-{p.estimator}",
)
def test_each_result_is_that_of_the_model_alone(protocol):
    data = _data(60)
    if protocol.n_bands == 5:
        images, labels = oracles.sample(60, (10, 10))
        data = [(images, labels, [f"image-{k}" for k in range(60)])]
    pair = paired_importance(*NETS, data, protocol, target_error=1e-9)
    for found, net in zip(pair, NETS, strict=True):
        alone = spectral_importance(net, data, protocol)
        assert found.ids == alone.ids
        assert found.n_images == 60
        np.testing.assert_allclose(found.per_image, alone.per_image, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.ends, alone.ends, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found.labels, alone.labels)
        np.testing.assert_array_equal(found.correct, alone.correct)
        for name in OPTIONAL:
            expected = getattr(alone, name)
            if expected is None:
                assert getattr(found, name) is None
            else:
                np.testing.assert_allclose(getattr(found, name), expected, rtol=0, atol=1e-5)
        assert found.n_forward == alone.n_forward
        assert found.forwards == alone.forwards


@pytest.mark.parametrize("target", ["signed_score", "score", "sign"])
def test_it_stops_where_the_difference_is_narrow_enough(target):
    data = _data(200)
    whole = [spectral_importance(net, data, Protocol(3)).per_image for net in NETS]
    wanted = Stopping(1.0, target).check(*(rows[:125] for rows in whole)).ratio
    error = wanted * 1.0001 if target != "sign" else 5.0
    stopping = Stopping(error, target)
    expected = next(n for n in check_points(0, 200) if stopping.check(*(r[:n] for r in whole)).done)
    pair = paired_importance(*NETS, data, Protocol(3), target_error=error, target=target)
    assert pair[0].n_images == pair[1].n_images == expected
    assert expected >= MIN_IMAGES
    if target == "signed_score":
        low, high = compare(*pair).signed_score_difference_interval
        assert (high - low) / 2 <= error


def test_it_goes_on_where_it_was(tmp_path):
    data = _data(50)
    options = {"target_error": 1e-9, "resume": tmp_path / "run"}
    first = paired_importance(*NETS, data, Protocol(3), max_images=30, **options)
    whole = paired_importance(*NETS, data, Protocol(3), **options)
    assert first[0].n_images == 30
    assert whole[1].n_images == 50
    # images that shared a forward pass with unfinished ones are run again
    assert 20 * 7 + 1 <= whole[0].n_forward <= 25 * 7 + 1
    again = paired_importance(*NETS, data, Protocol(3), **options)
    assert again[0].n_forward == again[1].n_forward == 0
    np.testing.assert_array_equal(again[1].per_image, whole[1].per_image)
    stored = SpectralImportance.load(tmp_path / "run" / "first")
    assert stored.ids == whole[0].ids


def test_an_accuracy_at_chance_is_said_of_all_images_together(caplog):
    wrong = []
    for x, _, ids in _data(60):
        logits = NETS[0](x)
        wrong.append((x, (logits.argmax(dim=1) + 1) % logits.shape[1], ids))
    pair = paired_importance(*NETS, wrong, Protocol(3), target_error=1e-9)
    expected = [chance_warning(int(one.correct.sum()), 60, one.n_classes) for one in pair]
    assert "0 of 60" in expected[0]
    assert [record.message for record in caplog.records] == [
        f"{name} model: {said}"
        for name, said in zip(("first", "second"), expected, strict=True)
        if said
    ]


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        (Protocol(3, absence="replacement"), {}, "depend on one image alone"),
        (Protocol.reference(3), {}, "depend on one image alone"),
        (Protocol(3), {"target_error": -1.0}, "target_error must be above 0"),
        (Protocol(3), {"target": "shares"}, "target must be one of"),
        (Protocol(3), {"max_images": 0}, "max_images must be"),
        (Protocol(3), {"precision": "half"}, "precision must be one of"),
    ],
)
def test_bad_choices_are_refused_before_any_work(protocol, options, message):
    recorders = oracles.Recorder(), oracles.Recorder()
    with pytest.raises(InputError, match=message):
        paired_importance(
            *recorders, oracles.sample(3), protocol, **{"target_error": 0.1, **options}
        )
    assert not recorders[0].seen


def test_a_second_model_in_training_is_refused_before_the_first_has_worked():
    recorder = oracles.Recorder()
    with pytest.raises(InputError, match="training mode"):
        paired_importance(recorder, oracles.TinyNet().train(), oracles.sample(3), target_error=0.1)
    assert not recorder.seen


def test_no_images_are_refused():
    with pytest.raises(InputError, match="the data are empty"):
        paired_importance(*NETS, (torch.zeros(0, 3, 16, 16), torch.zeros(0)), target_error=0.1)


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_counts_to_what_is_expected(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    paired_importance(*NETS, _data(150), Protocol(3), target_error=10.0, show_progress=True)
    each = 2 * (2**3 - 1)  # passes of an image through both models
    assert f"{MIN_IMAGES * each}/{MIN_IMAGES * each}" in terminal.getvalue()
    assert f"{CHECK_EVERY * each}/{MIN_IMAGES * each}" in terminal.getvalue()
