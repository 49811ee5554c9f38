"""Rows belong to one run: its model, its code, its protocol and its version of the method."""

from __future__ import annotations

import enum
import io
import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from functools import partial

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, protocol, spectral_importance
from iaside_plugins.importance.run import read_run
from iaside_plugins.storage.code import model_code
from iaside_plugins.storage.files import sweep, write_atomic, write_new_json
from iaside_plugins.storage.row_store import RowStore


def _run(folder, net=None, **options):
    return spectral_importance(
        net or oracles.TinyNet(), oracles.sample(3), Protocol(3), resume=folder, **options
    )


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_another_version_of_the_method_is_refused(tmp_path, monkeypatch):
    first = _run(tmp_path)
    assert "method_version" not in json.loads((tmp_path / "run.json").read_text())
    assert _run(tmp_path).n_forward == 0  # a folder that does not say it is of the first version
    monkeypatch.setattr(protocol, "METHOD_VERSION", 2)
    for act in (_run, read_run):
        with pytest.raises(InputError, match="method_version was 1 and is now 2"):
            act(tmp_path)
    other = tmp_path / "other"
    assert _run(other).n_forward == first.n_forward
    assert json.loads((other / "run.json").read_text())["method_version"] == 2
    monkeypatch.setattr(protocol, "METHOD_VERSION", 1)
    with pytest.raises(InputError, match="method_version was 2 and is now 1"):
        _run(other)


def test_a_folder_of_other_choices_names_them(tmp_path):
    chains = {"protocol estimator": "permutation", "protocol n_permutations": 8, "model": 1}
    fast = {"protocol estimator": "exact", "protocol forwards": "fast", "model": 1}
    cases = [
        (chains, fast, "choices (forwards='plain', estimator='permutation', n_permutations=8) or"),
        (fast, chains, "choices (forwards='fast', estimator='exact') or"),
        ({"model": 1, "forwards": "fast"}, {"model": 1}, "choices (forwards='fast') or"),
        ({"model": 1}, {"model": 2}, "choices or give another folder"),
    ]
    for k, (before, now, words) in enumerate(cases):
        RowStore(tmp_path / str(k), before)
        with pytest.raises(InputError, match="holds another run") as raised:
            RowStore(tmp_path / str(k), now)
        assert f"resume with the same {words}" in str(raised.value)


def test_of_runs_that_begin_together_one_has_the_folder(tmp_path):
    for turn in range(20):
        folder, barrier, said = tmp_path / str(turn), threading.Barrier(4), []

        def begin(k, folder=folder, barrier=barrier, said=said):
            barrier.wait()
            try:
                RowStore(folder, {"model": k})
                said.append(k)
            except InputError as error:
                assert "holds another run: model was" in str(error)  # noqa: PT017

        threads = [threading.Thread(target=begin, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said == [json.loads((folder / "run.json").read_text())["model"]]
        assert _names(folder) == ["run.json"]


def test_a_new_file_is_never_written_over(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError("no hard links here")

    for name in ("links", "none"):
        assert write_new_json(tmp_path / name, 1)
        assert not write_new_json(tmp_path / name, 2)
        assert json.loads((tmp_path / name).read_text()) == 1
        monkeypatch.setattr(os, "link", unsupported)
    assert _names(tmp_path) == ["links", "none"]


def test_a_run_whose_folder_was_taken_over_stops(tmp_path):
    store = RowStore(tmp_path, {"model": "a"})
    (tmp_path / "run.json").unlink()
    RowStore(tmp_path, {"model": "b"})
    with pytest.raises(InputError, match="model was 'b' and is now 'a'"):
        store.record_choice("beta", 0.5)


def _too_long(arrays):
    """The bytes of a chunk whose rows claim to be eight terabytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117)
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("keys", "notes"):
                with io.BytesIO() as one:
                    np.save(one, arrays[name])
                    archive.writestr(f"{name}.npy", one.getvalue())
            start = b"\x93NUMPY\x01\0" + struct.pack("<H", 118)
            archive.writestr("rows.npy", start + header + b"\n")
        return file.getvalue()


OTHERS = {
    "narrow": lambda a: {**a, "rows": a["rows"][:, :4]},
    "wide": lambda a: {**a, "rows": np.hstack([a["rows"], a["rows"]])},
    "one axis": lambda a: {**a, "rows": a["rows"][:, 0]},
    "text": lambda a: {**a, "rows": a["rows"].astype(str)},
    "complex": lambda a: {**a, "rows": a["rows"].astype(complex)},
    "single": lambda a: {**a, "rows": a["rows"].astype(np.float32)},
    "nan": lambda a: {**a, "rows": a["rows"] * np.nan},
    "infinite": lambda a: {**a, "rows": np.full_like(a["rows"], np.inf)},
    "number keys": lambda a: {**a, "keys": np.arange(len(a["keys"]))},
    "fewer keys": lambda a: {**a, "keys": a["keys"][1:]},
    "fewer notes": lambda a: {**a, "notes": a["notes"][1:]},
    "other arrays": lambda a: {"rows": a["rows"]},
    "too long": _too_long,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_rows_that_are_none_of_this_run_are_set_aside_and_said(tmp_path, caplog, kind):
    whole = _run(tmp_path)
    (chunk,) = tmp_path.glob("rows-*.npz")
    with np.load(chunk) as held:
        made = OTHERS[kind](dict(held))
    if isinstance(made, dict):
        with io.BytesIO() as file:
            np.savez(file, **made)
            made = file.getvalue()
    chunk.write_bytes(made)
    again = _run(tmp_path)
    assert (again.n_forward, again.score) == (whole.n_forward, whole.score)
    assert f"{chunk} is damaged" in caplog.text
    assert chunk.with_suffix(".damaged").exists()


SCALE = 2.0


def _helper(x):
    return x * SCALE


class _Own(torch.nn.Module):
    def forward(self, x):
        return _helper(x.mean(dim=(2, 3)))


def test_the_code_of_a_model_is_known(tmp_path, monkeypatch):
    net, before = _Own().eval(), model_code(_Own())
    assert before == model_code(_Own())
    _run(tmp_path, net)
    assert _run(tmp_path, net).n_forward == 0
    changes = [
        lambda m: m.setattr(_Own, "forward", lambda _, x: x.amax(dim=(2, 3))),
        lambda m: m.setitem(globals(), "_helper", lambda x: x * SCALE + 1),
        lambda m: m.setattr(net, "forward", lambda x: x.amin(dim=(2, 3)), raising=False),
    ]
    for change in changes:
        with monkeypatch.context() as patch:
            change(patch)
            assert model_code(net) != before
            with pytest.raises(InputError, match=r"(code|model) was '.*' and is now '"):
                _run(tmp_path, net)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert model_code(net) == before  # it is no code, but see `held`
    with pytest.raises(InputError, match=r"model was '.*' and is now '"):
        _run(tmp_path, net)
    assert model_code(torch.nn.Linear(1, 1)) is None  # of a library alone
    assert model_code(lambda x: x + 1) != model_code(lambda x: x + 2)


MEAN, PASSES = torch.zeros(1), 0


class _Normalised(torch.nn.Module):
    """A wrapper as people write them: its mean is no buffer; it counts and keeps an answer."""

    def __init__(self, net, mean):
        super().__init__()
        self.net, self.mean, self.passes, self.last = net, torch.tensor(mean), 0, None

    def forward(self, x):
        global PASSES
        PASSES += 1
        self.passes += 1
        self.last = self.net(x - self.mean + MEAN)
        return self.last


class _Slots:
    """An object without a dictionary of attributes."""

    __slots__ = ()


class _Callable:
    slots = _Slots()

    def __init__(self, net):
        self.net = net

    def __call__(self, x, slots=_Slots()):  # noqa: B008
        return self.net(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda net, mean: lambda x: net(x - mean),
        lambda net, mean: partial(lambda x, net, mean: net(x - mean), net=net, mean=mean),
        lambda net, mean: _Normalised(net, mean).eval(),
        lambda net, mean: _Callable(_Normalised(net, mean).eval()),
        lambda net, mean: _Normalised(net, mean).eval().forward,
        lambda net, mean: lambda x, net=net, means=[mean, mean]: net(x - means[0]),
    ],
    ids=["closure", "partial", "module", "object", "method", "defaults"],
)
def test_rows_are_of_the_weights_and_constants_that_a_model_holds(tmp_path, monkeypatch, make):
    one, other = oracles.TinyNet(seed=0), oracles.TinyNet(seed=1)
    _run(tmp_path, make(one, 0.1))
    assert _run(tmp_path, make(one, 0.1)).n_forward == 0
    for net, mean in ((other, 0.1), (one, 0.2)):
        with pytest.raises(InputError, match="holds another run"):
            _run(tmp_path, make(net, mean))


class _Resized(torch.nn.Module):
    """A defence as people write them: its settings are integers and words."""

    def __init__(self, net, size=2, mode="nearest", device="cpu"):
        super().__init__()
        self.net, self.size, self.mode, self.device = net, size, mode, device

    def forward(self, x):
        return self.net(
            torch.nn.functional.interpolate(x[:, :, :: self.size], x.shape[2:], mode=self.mode)
        )


def _resizing(x, net, size):
    return net(x[:, :, ::size])


def _counting(net, size):
    passes = 0

    def model(x):
        nonlocal passes
        passes += size
        return net(x[:, :, ::size])

    return model


@pytest.mark.parametrize(
    ("make", "before", "now"),
    [
        (_Resized, {"size": 1}, {"size": 2}),
        (lambda net, size: _Callable(_Resized(net, size).eval()), {"size": 1}, {"size": 2}),
        (lambda net, size: partial(_resizing, net=net, size=size), {"size": 1}, {"size": 2}),
        (_counting, {"size": 1}, {"size": 2}),
    ],
    ids=["module", "inside", "partial", "closure"],
)
def test_other_integers_that_a_model_holds_are_said(tmp_path, make, before, now, caplog):
    net = oracles.TinyNet()

    def model(**settings):
        made = make(net, **settings)
        return made.eval() if isinstance(made, torch.nn.Module) else made

    one = model(**before)
    _run(tmp_path, one)
    assert _run(tmp_path, one).n_forward == 0  # whatever it counted
    assert _run(tmp_path, model(**before)).n_forward == 0
    assert "other integers" not in caplog.text
    assert _run(tmp_path, model(**now)).n_forward == 0
    assert "size was 1 and is now 2): give another folder if they are settings" in caplog.text


def test_rows_are_of_the_words_that_a_model_holds(tmp_path):
    net = oracles.TinyNet()
    _run(tmp_path, _Resized(net, mode="nearest").eval())
    with pytest.raises(InputError, match="holds another run"):
        _run(tmp_path, _Resized(net, mode="bilinear").eval())


def test_where_a_model_runs_does_not_decide_its_rows(tmp_path):
    net = oracles.TinyNet()
    _run(tmp_path, _Resized(net, device="cuda:1").eval())
    assert _run(tmp_path, _Resized(net, device="cpu").eval()).n_forward == 0


def test_what_a_model_counts_is_none_of_its_constants(tmp_path, monkeypatch):
    net = _Normalised(oracles.TinyNet(), 0.1).eval()
    _run(tmp_path, net)
    assert net.passes > 0
    assert _run(tmp_path, net).n_forward == 0
    monkeypatch.setitem(globals(), "MEAN", torch.ones(1))
    with pytest.raises(InputError, match="holds another run"):
        _run(tmp_path, net)


class _Meter:
    def __init__(self):
        self.passes, self.scale = 0, 1


class _Metered(torch.nn.Module):
    """A network that counts in what it holds, behind a decorator, and sets a scale of its own."""

    def __init__(self, net):
        super().__init__()
        self.net, self.meter, self.stats = net, _Meter(), {"passes": 0}
        self.calls = self.scale = 0

    @torch.no_grad()
    def forward(self, x):
        self.calls += 1
        self.stats["passes"] += 1
        self.scale = 2
        self.meter.passes += 1
        return self.net(x) * self.meter.scale


def test_what_a_model_counts_in_what_it_holds_is_none_of_its_constants(tmp_path, caplog):
    net = _Metered(oracles.TinyNet()).eval()
    _run(tmp_path, net)
    assert net.meter.passes > 0
    assert _run(tmp_path, net).n_forward == 0
    assert "other integers" not in caplog.text
    net.meter.scale = 3
    _run(tmp_path, net)
    assert "meter.scale was 1 and is now 3)" in caplog.text


class _Kind(enum.Enum):
    """Two settings by name."""

    MEAN = "mean"
    MAX = "max"


class _Listed(_Resized):
    """A network that keeps what it saw: of its base class's `forward` and its own."""

    def __init__(self, net, seen):
        super().__init__(net)
        self.seen = seen

    def forward(self, x):
        self.seen.append(len(x))
        return super().forward(x)


def test_a_list_of_counts_is_said_not_refused(tmp_path, caplog):
    net = _Listed(oracles.TinyNet(), []).eval()
    _run(tmp_path, net)
    assert net.seen
    assert _run(tmp_path, net).n_forward == 0
    assert "seen was [] and is now [" in caplog.text


def test_settings_by_name_are_known_and_places_are_not(tmp_path):
    net = oracles.TinyNet()

    def model(kind, place):
        made = _Resized(net, device="cuda").eval()
        made.kind, made.place = kind, place
        return made

    _run(tmp_path, model(_Kind.MEAN, "/weights/first.pt"))
    assert _run(tmp_path, model(_Kind.MEAN, "/weights/moved.pt")).n_forward == 0
    with pytest.raises(InputError, match="holds another run"):
        _run(tmp_path, model(_Kind.MAX, "/weights/first.pt"))


@pytest.mark.parametrize("through", [1, 2])
def test_modules_that_hold_one_another_have_an_identity(tmp_path, through):
    """A network whose own function reaches it, at once or by way of another network."""

    def chained():
        nets = [oracles.TinyNet() for _ in range(through)]
        for k, net in enumerate(nets):
            net.change = lambda logits, other=nets[k - 1]: logits + 0 * len(list(other.children()))
        return nets[0]

    _run(tmp_path, chained())
    assert _run(tmp_path, chained()).n_forward == 0
    other = chained()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(InputError, match="model was"):
        _run(tmp_path, other)


def test_a_folder_that_does_not_say_its_code_is_taken(tmp_path):
    _run(tmp_path, _Own().eval())
    header = tmp_path / "run.json"
    held = json.loads(header.read_text())
    del held["code"]
    header.write_text(json.dumps(held))
    assert _run(tmp_path, _Own().eval()).n_forward == 0


@pytest.mark.skipif(os.name != "posix", reason="asks for processes as POSIX does")
def test_what_a_killed_process_left_is_swept(tmp_path):
    RowStore(tmp_path, {})
    script = (
        "import os, pathlib, sys; from iaside_plugins.storage.files import write_atomic\n"
        "pathlib.Path.replace = lambda *_: os._exit(9)\n"
        "write_atomic(pathlib.Path(sys.argv[1], 'rows-000000.npz'), b'half')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    (left,) = tmp_path.glob(".rows*")
    ours = tmp_path / left.name.replace(left.name.split("-")[-2], str(os.getpid()))
    ours.write_bytes(b"being written")
    (tmp_path / ".hidden").write_bytes(b"the user's")
    RowStore(tmp_path, {})
    assert _names(tmp_path) == sorted([".hidden", ours.name, "run.json"])
    os.utime(ours, (0, 0))
    sweep(tmp_path)
    assert not ours.exists()
    write_atomic(tmp_path / "file", b"")
