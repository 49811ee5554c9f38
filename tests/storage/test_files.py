"""Files that are read and written: links, pipes and odd JSON."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from iaside_plugins.adapters.imagenet.labels import read_classes
from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.cli.values import pick_protocol
from iaside_plugins.entry.robustbench_json import read
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.storage import resume_folder as cache
from iaside_plugins.storage.files import check_writable, read_json, write_atomic, write_json
from iaside_plugins.storage.row_store import read_header
from iaside_plugins.value_table.rows import ImageNote


def test_links_stay_and_what_they_lead_to_is_written(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/real.json").write_text("{}")
    for name, target in (("a", "inner/real.json"), ("b", "a"), ("new", "inner/new.json")):
        (tmp_path / name).symlink_to(target)
    for name, real in (("b", "inner/real.json"), ("new", "inner/new.json")):
        check_writable(tmp_path / name)
        write_json(tmp_path / name, [name])
        assert (tmp_path / name).is_symlink()
        assert not (tmp_path / real).is_symlink()
        assert read_json(tmp_path / real) == [name]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"cannot write .*loop: too many links"):
        check_writable(tmp_path / "loop")


def test_pipes_and_open_files_are_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    check_writable(tmp_path / "pipe")  # does not wait for the reader
    reader.start()
    write_atomic(tmp_path / "pipe", b"through")
    reader.join(10)
    assert got == [b"through"]
    assert (tmp_path / "pipe").is_fifo()
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before ")
        place = Path(f"/proc/self/fd/{file.fileno()}")
        check_writable(place)
        write_atomic(place, b"and after")
    assert (tmp_path / "log").read_bytes() == b"before and after"


READERS = {
    "classes": lambda path: read_classes(path),
    "a protocol": lambda path: pick_protocol(str(path), None, 0),
    "run.json": lambda path: read_header(path.parent),
    "a report": lambda path: AgreementReport.load(path),
    "a model's file": lambda path: read(path) if path.is_file() else read_json(path),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_files_that_are_no_sound_json_are_refused(tmp_path, reader):
    path = tmp_path / "run.json"
    for content in (
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5000,
        b"[1",
        b"\xff",
        b"[" + b"9" * 5000,
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            reader(path)
        assert len(str(refused.value)) < 500
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="expected a file, got a pipe or a device"):
        reader(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="directory"):
        reader(path)


def test_odd_json_inside_other_texts_is_refused():
    with pytest.raises(InputError, match="is not JSON: nested too deeply") as refused:
        pick_protocol("n_bands=" + "[" * 100_000, 2, 0)
    assert len(str(refused.value)) < 200
    for note in ("[" * 100_000, "9" * 5000, "[1e999, 2, 3, 4]"):
        with pytest.raises(InputError, match="without its image's label") as refused:
            ImageNote.from_json(note)
        assert len(str(refused.value)) < 200
    with pytest.raises(InputError, match=r"unknown protocol 'xxx.*\.\.\.") as refused:
        pick_protocol("x" * 5000, None, 0)
    assert len(str(refused.value)) < 400
    assert len(str(InputError("got " + "x" * 100_000))) < 300


def test_a_pipe_is_no_result(tmp_path):
    os.mkfifo(tmp_path / "result.npz")
    with pytest.raises(InputError, match="expected a file, got a pipe"):
        SpectralImportance.load(tmp_path / "result.npz")


@pytest.mark.parametrize("home", ["unknown", "a file"])
def test_without_a_home_work_goes_to_a_temporary_folder(tmp_path, monkeypatch, caplog, home):
    for name in ("IASIDE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home == "unknown":

        def none() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(cache.Path, "home", none)
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    with cache.resume_folder(None, "profile", 3, object()) as folder:
        folder.mkdir(parents=True)
        assert folder.is_relative_to(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == (["file"] if home == "a file" else [])
    assert "unfinished work is kept in" in caplog.text
    with (
        pytest.raises(ZeroDivisionError),
        cache.resume_folder(None, "profile", 3, object()) as folder,
    ):
        raise ZeroDivisionError
    assert not list(tmp_path.glob("iaside-*"))  # there was no work to keep
    monkeypatch.setenv("IASIDE_CACHE", "/dev/null/cache")
    with pytest.raises(InputError, match="cannot write"), cache.resume_folder(None, "x", object()):
        pass
