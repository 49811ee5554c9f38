"""Saved results come back to the bit; what is not one is refused, and nothing executed."""

from __future__ import annotations

import json
import os

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, SpectralImportance, spectral_importance


@pytest.fixture(scope="module")
def result():
    """Twelve images through a tiny network, four bands."""
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (12, 10)), Protocol(4))


@pytest.fixture(scope="module")
def sampled():
    """The same by the permutation estimator, without a value table."""
    protocol = Protocol(4, estimator="permutation")
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (12, 10)), protocol)


@pytest.fixture(scope="module")
def single():
    """One image: nothing has an interval."""
    return spectral_importance(oracles.TinyNet(), oracles.sample(1, (12, 10)), Protocol(4))


@pytest.mark.parametrize("name", ["result", "sampled", "single"])
def test_saved_results_come_back_to_the_bit(name, request, tmp_path):
    one = request.getfixturevalue(name)
    one.save(tmp_path / "deep" / "result.npz")
    again = SpectralImportance.load(tmp_path / "deep" / "result.npz")
    assert again.to_dict() == one.to_dict()
    assert again.protocol == one.protocol
    assert (again.ids, again.image_size) == (one.ids, one.image_size)
    assert again.correct.dtype == bool
    np.testing.assert_array_equal(again.ends, one.ends)
    assert (again.values is None) == (one.values is None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.npz"]


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_file_that_would_execute_code_is_refused(result, tmp_path):
    result.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as data:
        arrays = dict(data)
    for name in ("head", "per_image"):
        hostile = np.array([_Hostile(tmp_path / "executed")], dtype=object)
        np.savez(tmp_path / "bad.npz", **{**arrays, name: hostile})
        with pytest.raises(InputError, match=r"bad\.npz is not a saved SpectralImportance"):
            SpectralImportance.load(tmp_path / "bad.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: None, id="missing"),
        pytest.param(lambda path: path.mkdir(), id="folder"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("hello"), id="text"),
        pytest.param(lambda path: path.write_bytes(b"PK\x03\x04 and no more"), id="cut"),
        pytest.param(lambda path: np.savez(path, head=np.array("{}")), id="no-format"),
        pytest.param(lambda path: np.savez(path, head=np.array("[]")), id="list"),
        pytest.param(lambda path: np.savez(path, rows=np.zeros(3)), id="other-npz"),
        pytest.param(lambda path: _save_npy(path), id="npy"),
    ],
)
def test_what_is_not_a_saved_result_is_refused(make, tmp_path):
    path = tmp_path / "file.npz"
    make(path)
    with pytest.raises(InputError, match=r"file\.npz"):
        SpectralImportance.load(path)


def _save_npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def test_damage_anywhere_is_told_as_such(result, tmp_path):
    path = tmp_path / "file.npz"
    result.save(path)
    sound = path.read_bytes()
    refused = 0
    for k in range(0, len(sound), 61):
        for damaged in (sound[:k], sound[:k] + bytes([sound[k] ^ 0xFF]) + sound[k + 1 :]):
            path.write_bytes(damaged)
            try:
                again = SpectralImportance.load(path)
            except InputError:
                refused += 1
            else:  # a byte that does not matter, such as a time stamp
                np.testing.assert_array_equal(again.per_image, result.per_image)
    assert refused > len(sound) // 61


def test_a_file_of_a_later_version_is_refused(result, tmp_path):
    result.save(tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz") as data:
        arrays = dict(data)
    head = json.loads(str(arrays["head"]))
    arrays["head"] = np.array(json.dumps({**head, "format": 99}))
    np.savez(tmp_path / "later.npz", **arrays)
    with pytest.raises(InputError, match=r"later\.npz was written by another version"):
        SpectralImportance.load(tmp_path / "later.npz")


def test_results_that_cannot_be_written_are_refused(result, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        result.save(tmp_path / "file" / "result.npz")
