"""The cache of unfinished work: one folder for a command, its model and the code of both."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

from iaside_plugins.errors import InputError
from iaside_plugins.interrupts import INTERRUPTED, interrupted
from iaside_plugins.storage import resume_folder as module
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.storage.row_store import RowStore, count_rows


def _stopped(*identity):
    """The folder of a run that did not end."""
    with pytest.raises(KeyboardInterrupt), resume_folder(None, *identity) as folder:  # noqa: PT012
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows-0.npz").write_text("rows")
        raise KeyboardInterrupt
    return folder


def test_work_of_other_code_is_left_where_it_is_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path))
    net = oracles.TinyNet()
    first = _stopped("profile", 3, net)
    assert first == _stopped("profile", 3, net)
    assert _stopped("profile", 4, net) != first
    assert caplog.text == ""
    changes = {
        "the model's": lambda m: m.setattr(oracles.TinyNet, "forward", lambda _, x: x),
        "this package's": lambda m: m.setattr(module, "package_digest", lambda: "newer"),
    }
    for change in changes.values():
        caplog.clear()
        with monkeypatch.context() as patch:
            change(patch)
            with resume_folder(None, "profile", 3, net) as folder:
                assert folder != first
            assert f"{first} holds unfinished work of this command by other code" in caplog.text
    assert first.exists()
    with resume_folder(None, "profile", 3, net) as folder:
        assert folder == first
    assert not first.exists()


def test_finished_images_are_counted_and_said(tmp_path, caplog):
    for name, keys in (("spectral", "abc"), ("conditions", "abcdef")):
        store = RowStore(tmp_path / name, {"model": 1}, flush_every=2)
        for key in (*keys, "a"):
            store.add(key, np.zeros(2))
        store.flush()
    (tmp_path / "spectral" / "rows-9.npz").write_text("damaged")
    assert count_rows(tmp_path) == 9
    assert count_rows(tmp_path / "nothing") == 0
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), resume_folder(tmp_path, None):
            raise KeyboardInterrupt
    assert caplog.text.count(f"{tmp_path} holds 9 finished images") == 2
    assert "; 18 finished images are kept" in interrupted()
    assert interrupted() == INTERRUPTED


@pytest.mark.parametrize("rows", [False, True])
def test_a_folder_without_work_does_not_stay(tmp_path, monkeypatch, rows):
    """A run that is refused before its first row; of one that has rows the folder stays."""
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path))
    with pytest.raises(InputError), resume_folder(None, "a command", None) as folder:  # noqa: PT012
        (folder / "spectral").mkdir(parents=True)
        (folder / "spectral" / "run.json").write_text("{}")
        if rows:
            (folder / "spectral" / "rows-0.npz").write_text("rows")
        raise InputError("refused")
    assert folder.exists() is rows
