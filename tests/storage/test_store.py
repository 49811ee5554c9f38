"""Finished rows on disk: whole or not at all, and only for the run they belong to."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest

from iaside_plugins import InputError
from iaside_plugins.storage.files import check_writable, write_atomic, write_json
from iaside_plugins.storage.row_store import RowStore

RUN = {"model": "TinyNet:0", "batch_size": 64}


def _row(k: int) -> np.ndarray:
    return np.arange(5.0) + k


def test_rows_come_back_to_the_bit(tmp_path):
    store = RowStore(tmp_path, RUN, flush_every=2)
    for k in range(5):
        store.add(f"image-{k}", _row(k) / 3)
    store.flush()
    assert len(list(tmp_path.glob("rows-*.npz"))) == 3
    again = RowStore(tmp_path, RUN)
    assert list(again.rows) == [f"image-{k}" for k in range(5)]
    for k in range(5):
        np.testing.assert_array_equal(again.rows[f"image-{k}"], _row(k) / 3)


def test_chunks_reach_the_disk_as_they_fill(tmp_path):
    store = RowStore(tmp_path, RUN, flush_every=2)
    store.add("a", _row(0))
    assert not list(tmp_path.glob("rows-*.npz"))
    store.add("b", _row(1))
    assert sorted(RowStore(tmp_path, RUN).rows) == ["a", "b"]
    store.add("c", _row(2))
    assert sorted(RowStore(tmp_path, RUN).rows) == ["a", "b"]  # c is only pending
    store.flush()
    store.flush()  # nothing pending: no empty chunk
    assert len(list(tmp_path.glob("rows-*.npz"))) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_without_a_folder_rows_stay_in_memory():
    store = RowStore(None, RUN)
    store.add("a", _row(0))
    store.flush()
    assert list(store.rows) == ["a"]


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({**RUN, "batch_size": 32}, "batch_size was 64 and is now 32"),
        ({**RUN, "model": "Other:1"}, "model was 'TinyNet:0' and is now 'Other:1'"),
        ({**RUN, "precision": "float64"}, "precision was None and is now 'float64'"),
        ({"model": "TinyNet:0"}, "batch_size was 64 and is now None"),
    ],
)
def test_another_run_is_refused_and_nothing_is_lost(tmp_path, identity, message):
    store = RowStore(tmp_path, RUN)
    store.add("a", _row(0))
    store.flush()
    with pytest.raises(InputError, match=message):
        RowStore(tmp_path, identity)
    assert list(RowStore(tmp_path, RUN).rows) == ["a"]


def test_a_header_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{not json")
    with pytest.raises(InputError, match=r"run\.json"):
        RowStore(tmp_path, RUN)


def test_rows_that_belong_to_no_known_run_are_refused(tmp_path):
    """Without its header a chunk may be another model's: a later run would take its rows."""
    store = RowStore(tmp_path, {**RUN, "model": "Other:1"})
    store.add("a", _row(0))
    store.flush()
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match=r"run\.json"):
        RowStore(tmp_path, RUN)


def test_every_damage_is_survived(tmp_path):
    """Cut or with one byte turned anywhere: the chunk's rows are whole or gone, never an error."""
    store = RowStore(tmp_path, RUN)
    for name in "ab":
        store.add(name, _row(0))
    store.flush()
    (chunk,) = tmp_path.glob("rows-*.npz")
    sound = chunk.read_bytes()
    lost = 0
    for k in range(0, len(sound), 13):
        for damaged in (sound[:k], sound[:k] + bytes([sound[k] ^ 0xFF]) + sound[k + 1 :]):
            chunk.write_bytes(damaged)
            rows = RowStore(tmp_path, RUN).rows
            assert sorted(rows) in ([], ["a", "b"])
            assert all(np.array_equal(row, _row(0)) for row in rows.values())
            assert chunk.exists() == bool(rows)
            lost += not rows
    assert lost > len(sound) // 13  # every cut at least


def test_chunks_that_would_execute_code_are_not_loaded(tmp_path):
    RowStore(tmp_path, RUN)
    hostile = np.array([_Hostile(tmp_path / "executed")], dtype=object)
    np.savez(tmp_path / "rows-000000.npz", keys=hostile, rows=hostile)
    assert RowStore(tmp_path, RUN).rows == {}
    assert not (tmp_path / "executed").exists()


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_new_chunks_never_overwrite_old_ones(tmp_path):
    for k in range(3):
        store = RowStore(tmp_path, RUN)
        store.add(f"image-{k}", _row(k))
        store.flush()
    # One lost: its number may be free, the others not.
    next(tmp_path.glob("rows-000000-*.npz")).unlink()
    store = RowStore(tmp_path, RUN)
    store.add("image-9", _row(9))
    store.flush()
    assert sorted(RowStore(tmp_path, RUN).rows) == ["image-1", "image-2", "image-9"]


def test_atomic_files_are_whole_with_ordinary_permissions(tmp_path):
    path = tmp_path / "new" / "file.bin"
    write_atomic(path, b"first")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_files_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*file/inside\.json"):
        write_atomic(tmp_path / "file" / "inside.json", b"")
    with pytest.raises(InputError, match="cannot write"):
        RowStore(tmp_path / "file", RUN)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomic(path, b"old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_json_keeps_its_order_and_refuses_nan(tmp_path):
    path = tmp_path / "data.json"
    write_json(path, {"b": 1, "a": [1.5, None]})
    assert list(json.loads(path.read_text())) == ["b", "a"]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["b"] == 1


def test_compact_merges_the_chunks_since_the_last_call(tmp_path):
    store = RowStore(tmp_path, {"a": 1})
    for key in "abc":
        store.add(key, np.array([ord(key), 0.5]))
        store.flush()
    assert len(list(tmp_path.glob("rows-*.npz"))) == 3
    store.compact()
    assert len(list(tmp_path.glob("rows-*.npz"))) == 1
    store.add("d", np.array([1.0, 2.0]))
    store.compact()
    store.compact()
    assert len(list(tmp_path.glob("rows-*.npz"))) == 2
    again = RowStore(tmp_path, {"a": 1})
    assert sorted(again.rows) == ["a", "b", "c", "d"]
    assert again.rows["b"].tolist() == [ord("b"), 0.5]
    RowStore(None, {}).compact()


def test_a_kill_between_merging_and_deleting_loses_nothing(tmp_path, monkeypatch):
    store = RowStore(tmp_path, {})
    for key in "ab":
        store.add(key, np.array([1.0]))
        store.flush()

    def killed(path, missing_ok=False):
        if path.name.startswith("rows-"):
            raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        store.compact()
    monkeypatch.undo()
    assert sorted(RowStore(tmp_path, {}).rows) == ["a", "b"]


def test_checking_leaves_no_folder_behind(tmp_path):
    check_writable(tmp_path / "deep" / "er" / "file.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "deep").mkdir()
    check_writable(tmp_path / "deep" / "er" / "file.json")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
