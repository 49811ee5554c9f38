"""A full disk and damaged chunks: a clear message, and earlier work is kept."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.importance.run import read_run
from iaside_plugins.storage import row_store as store_module
from iaside_plugins.storage.row_store import RowStore


def _full(monkeypatch, after: int) -> None:
    """Writing chunks fails as on a full disk once `after` of them are there."""
    write = Path.write_bytes
    chunks = []

    def limited(path, data):
        if path.name.startswith(".rows-"):
            chunks.append(path)
            if len(chunks) > after:
                write(path, data[: len(data) // 2])  # what fits is written
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", limited)


def test_a_full_disk_ends_the_run_with_a_message_and_keeps_what_was_written(tmp_path, monkeypatch):
    data = oracles.sample(6)
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    _full(monkeypatch, after=3)
    with pytest.raises(InputError, match=r"cannot write .*rows-.*No space left on device"):
        spectral_importance(oracles.TinyNet(), data, Protocol(3), batch_size=4, resume=tmp_path)
    monkeypatch.undo()
    assert read_run(tmp_path).n_images == 3
    assert not list(tmp_path.glob(".rows-*")), "half a chunk was left behind"
    found = spectral_importance(oracles.TinyNet(), data, Protocol(3), batch_size=4, resume=tmp_path)
    whole = spectral_importance(oracles.TinyNet(), data, Protocol(3), batch_size=4)
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.n_forward == whole.n_forward - 3 * 7


LIMITED = """
import resource, signal, sys
import numpy as np
from iaside_plugins.storage.row_store import RowStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = RowStore(sys.argv[1], {}, flush_every=1)
store.add("small", np.zeros(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.add("large", np.zeros(10_000))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
def test_a_write_that_the_system_refuses(tmp_path):
    """The real thing: the operating system's own limit instead of a patched function."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("InputError: cannot write "), done.stderr
    assert "File too large" in done.stderr
    assert list(RowStore(tmp_path, {}).rows) == ["small"]
    assert not list(tmp_path.glob(".rows-*"))


def test_a_damaged_chunk_is_set_aside_and_said(tmp_path, caplog):
    store = RowStore(tmp_path, {}, flush_every=1)
    for k in range(3):
        store.add(f"image-{k}", np.full(4, float(k)))
    chunk = sorted(tmp_path.glob("rows-*.npz"))[1]
    held = bytearray(chunk.read_bytes())
    place = held.index(np.full(4, 1.0).tobytes())  # one bit of the numbers themselves
    held[place + 6] ^= 1
    chunk.write_bytes(held)
    with caplog.at_level(logging.WARNING):
        again = RowStore(tmp_path, {})
    assert list(again.rows) == ["image-0", "image-2"]
    assert f"{chunk} is damaged" in caplog.text
    assert "CRC" in caplog.text
    assert chunk.with_suffix(".damaged").exists()
    caplog.clear()
    assert list(RowStore(tmp_path, {}).rows) == ["image-0", "image-2"]  # said once
    assert caplog.text == ""


def test_many_chunks_become_few(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MERGE_AT", 8)
    store = RowStore(tmp_path, {}, flush_every=1)
    for k in range(30):
        store.add(f"image-{k}", np.full(2, float(k)), note=str(k))
    store.flush()
    assert len(list(tmp_path.glob("rows-*.npz"))) < 12
    again = RowStore(tmp_path, {})
    assert list(again.rows) == [f"image-{k}" for k in range(30)]  # in their order
    assert [again.notes[key] for key in again.rows] == [str(k) for k in range(30)]


def test_a_row_waits_no_longer_than_a_few_seconds(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(store_module.time, "monotonic", lambda: now[0])
    store = RowStore(tmp_path, {}, flush_every=1000)
    store.add("a", np.zeros(2))
    now[0] += store_module.FLUSH_SECONDS - 1
    store.add("b", np.zeros(2))
    assert RowStore(tmp_path, {}).rows == {}
    now[0] += 1
    store.add("c", np.zeros(2))
    assert list(RowStore(tmp_path, {}).rows) == ["a", "b", "c"]


def test_two_processes_on_one_folder_do_not_overwrite_each_other(tmp_path):
    stores = [RowStore(tmp_path, {}, flush_every=1) for _ in range(2)]
    for store, key in zip(stores, "ab", strict=True):
        store.add(key, np.zeros(2))
    assert sorted(RowStore(tmp_path, {}).rows) == ["a", "b"]


def test_choices_are_stored_beside_the_identity(tmp_path):
    store = RowStore(tmp_path, {"model": "m"})
    store.record_choice("forwards", {"threads": 2})
    assert RowStore(tmp_path, {"model": "m"}).choices == {"forwards": {"threads": 2}}
    with pytest.raises(InputError, match="model was 'm' and is now 'n'"):
        RowStore(tmp_path, {"model": "n"})


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_an_error_of_the_system_is_not_taken_for_damage(tmp_path, monkeypatch, number):
    RowStore(tmp_path, {}, flush_every=1).add("a", np.zeros(2))

    def failing(_path, _most):
        raise OSError(number, "the system says no")

    monkeypatch.setattr(store_module, "read_plain", failing)
    with pytest.raises(InputError, match=r"cannot read .*rows-.*the system says no"):
        RowStore(tmp_path, {})
    monkeypatch.undo()
    assert list(RowStore(tmp_path, {}).rows) == ["a"]


def test_chunks_that_are_merged_while_they_are_read(tmp_path, monkeypatch):
    store = RowStore(tmp_path, {}, flush_every=1)
    for key in "abc":
        store.add(key, np.zeros(2))
    read, merged = Path.read_bytes, []

    def while_merging(path):
        if path.name.startswith("rows-") and not merged:
            merged.append(path)
            store.compact()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", while_merging)
    assert sorted(RowStore(tmp_path, {}).rows) == ["a", "b", "c"]


def test_chunks_that_another_process_removed_do_not_stop_a_run(tmp_path):
    store = RowStore(tmp_path, {}, flush_every=1)
    for key in "ab":
        store.add(key, np.zeros(2))
    for chunk in tmp_path.glob("rows-*.npz"):
        chunk.unlink()
    store.compact()
    assert sorted(RowStore(tmp_path, {}).rows) == ["a", "b"]


def test_choices_of_two_processes_are_kept(tmp_path):
    stores = [RowStore(tmp_path, {}) for _ in range(2)]
    stores[0].record_choice("forwards", {"threads": 1})
    stores[1].record_choice("beta", 0.5)
    assert RowStore(tmp_path, {}).choices == {"forwards": {"threads": 1}, "beta": 0.5}
