"""Saved results of which one value is missing or of another kind: refused, or sound."""

from __future__ import annotations

import contextlib
import json
import os

import numpy as np
import oracles
import pytest

from iaside_plugins import (
    ErrorDecomposition,
    FourierHeatMap,
    InputError,
    Protocol,
    SpectralImportance,
    SpectralPartition,
    error_decomposition,
    fourier_heatmap,
    spectral_importance,
)
from iaside_plugins.decomposition.text import decomposition_text
from iaside_plugins.display.report import spectral_report
from iaside_plugins.heatmap.text import heatmap_text
from iaside_plugins.spectra.stored import load_spectra
from iaside_plugins.storage.row_store import count_rows

X, Y = oracles.sample(3, (8, 8))
NET = oracles.TinyNet()
READ = {
    SpectralImportance: lambda result: (spectral_report(result), result.by_class()),
    ErrorDecomposition: decomposition_text,
    FourierHeatMap: heatmap_text,
}


@pytest.fixture(scope="module")
def results():
    pairs = (X, {("noise", 1): (X + 0.1).clamp(0, 1)}, Y)
    return {
        SpectralImportance: spectral_importance(NET, (X, Y), Protocol(3)),
        ErrorDecomposition: error_decomposition(NET, pairs, Protocol(3)),
        FourierHeatMap: fourier_heatmap(NET, (X, Y), partition=SpectralPartition(3)),
    }


def _altered(arrays: dict[str, np.ndarray]):
    """Yield copies of the arrays, each with one of them, or one value of the head, altered."""
    for name, array in arrays.items():
        if name == "head":
            continue
        for other in (
            None,
            np.full(array.shape, "x"),
            array[:1],
            array[:0],
            np.array(1.0),
            np.full(array.shape, np.inf),
            array.astype(complex),
        ):
            rest = {key: value for key, value in arrays.items() if key != name}
            yield f"{name} {other!r}", rest if other is None else {**rest, name: other}
    head = json.loads(str(arrays["head"]))
    for name in head:
        for other in (None, "x", [], -1, {}, 1e300, [1, 2, 3, 4, 5]):
            yield (
                f"{name}={other!r}",
                {
                    **arrays,
                    "head": np.array(json.dumps({**head, name: other})),
                },
            )


@pytest.mark.parametrize("kind", READ)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_altered_file_ends_in_anything_but_one_line(kind, results, tmp_path):
    path = tmp_path / "result.npz"
    results[kind].save(path)
    with np.load(path) as data:
        arrays = dict(data)
    wanted, refused = results[kind].to_dict(), 0
    for what, some in _altered(arrays):
        np.savez(path, **some)
        try:
            found = kind.load(path)
        except InputError:
            refused += 1
            continue
        READ[kind](found)
        assert found.to_dict().keys() == wanted.keys(), what
        assert found.n_images == 3, what
    assert refused > 50


@pytest.mark.parametrize("kind", READ)
def test_a_file_of_another_version_is_said_to_be_one(kind, results, tmp_path):
    path = tmp_path / "result.npz"
    results[kind].save(path)
    with np.load(path) as data:
        arrays = dict(data)
    head = json.loads(str(arrays["head"]))
    version = next(name for name in ("format", "decomposition", "fourier_heat_map") if name in head)
    np.savez(path, **{**arrays, "head": np.array(json.dumps({**head, version: 99}))})
    with pytest.raises(InputError, match=r"^\S*result\.npz was written by another version"):
        kind.load(path)


def test_texts_nested_too_deeply_are_refused(results, tmp_path):
    deep = "[" * 100_000
    (tmp_path / "deep.json").write_text(deep)
    with pytest.raises(InputError, match="nested too deeply"):
        load_spectra(tmp_path / "deep.json")
    for kind in READ:
        np.savez(tmp_path / "deep.npz", head=np.array(deep))
        with pytest.raises(InputError, match="nested too deeply"):
            kind.load(tmp_path / "deep.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_dangling_links_among_finished_rows_are_not_waited_for(tmp_path):
    spectral_importance(NET, (X, Y), Protocol(3), resume=tmp_path / "run")
    os.mkfifo(tmp_path / "run" / "rows-000009-aaaaaaaa.npz")
    with contextlib.suppress(OSError):
        (tmp_path / "run" / "rows-000010-aaaaaaaa.npz").symlink_to(tmp_path / "nothing")
    assert count_rows(tmp_path / "run") == 3
    os.mkfifo(tmp_path / "spectra.json")
    with pytest.raises(InputError, match="pipe"):
        load_spectra(tmp_path / "spectra.json")
