"""Real worker processes: equal numbers, kills, errors, and nothing that outlives its parent.

Where nothing is said of `forked_workers`, each is a new interpreter, as for users.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from deadly import Deadly, Slow, StartMethod, beats_often, exits, local_class

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.errors import InputTypeError
from iaside_plugins.parallel import processes
from iaside_plugins.parallel.pool import Part
from iaside_plugins.parallel.processes import device_pool, one_or_several
from iaside_plugins.parallel.session import packed, unpacked

TWO = ["cpu", "cpu"]
OPTIONS = {"batch_size": 8}
TESTS = Path(__file__).resolve().parent.parent


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


def wait_until(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_device_lists():
    cpu = torch.device("cpu")
    assert one_or_several("cpu, cpu") == one_or_several(TWO) == (None, [cpu, cpu])
    assert one_or_several("cuda:0,cuda:1")[1][1] == torch.device("cuda", 1)
    assert one_or_several(None) == (None, [])
    for single in ("cpu", cpu, ["cpu"]):
        assert one_or_several(single) == (cpu, [])
    with pytest.raises(InputError, match=r"cuda:0,cuda:1, got 'cpu,gpu'"):
        one_or_several("cpu,gpu")


def same_though_a_worker_is_killed(protocol, folder):
    data = oracles.sample(8)
    whole = spectral_importance(Deadly(folder, times=0), data, protocol, **OPTIONS)
    found = spectral_importance(
        Deadly(folder), data, protocol, device=TWO, resume=folder / "run", **OPTIONS
    )
    assert list(folder.glob("killed-*"))
    for name in ("per_image", "values", "ends", "labels", "correct"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert (found.ids, found.score) == (whole.ids, whole.score)


def test_a_killed_worker_loses_nothing_and_changes_nothing(tmp_path):
    same_though_a_worker_is_killed(Protocol(4), tmp_path)


@pytest.mark.usefixtures("forked_workers")
def test_a_killed_worker_of_the_reference_protocol(tmp_path):
    same_though_a_worker_is_killed(Protocol.reference(3, image_batch=3), tmp_path)


@pytest.mark.usefixtures("forked_workers")
def test_rows_and_images_larger_than_a_pipe_holds():
    """A parent that waited to be read, and a worker that waited to be read, would wait forever."""
    data, protocol = oracles.sample(240, (16, 16)), Protocol.reference(8, image_batch=120)
    with device_pool([torch.device("cpu")]) as pool:
        found = spectral_importance(oracles.TinyNet(), data, protocol, device=pool)
    assert found.values[:120].nbytes > 2**17 < data[0][:120].numpy().nbytes
    assert np.isfinite(found.values).all()


@pytest.mark.usefixtures("forked_workers")
def test_what_reads_for_a_worker_starts_as_in_the_parent():
    """Not by `spawn`, as the worker itself: each would import torch for every batch."""
    with device_pool([torch.device("cpu")]) as pool:
        part = Part(pool.put_model(oracles.TinyNet()), pool.put(StartMethod()), 0)
        ((_, found),) = pool.results([part])
    assert found == multiprocessing.get_start_method(allow_none=True)


@pytest.mark.usefixtures("forked_workers")
def test_a_model_that_always_kills_is_an_error(tmp_path):
    net = Deadly(tmp_path, at=1, times=99)
    with pytest.raises(InputError, match=r"3 workers died.*killed by signal 9"):
        spectral_importance(net, oracles.sample(2), Protocol(3), device="cpu,cpu", **OPTIONS)
    assert len(list(tmp_path.glob("killed-*"))) >= 3
    assert all(gone(int(path.name.split("-")[1])) for path in tmp_path.glob("killed-*"))


@pytest.mark.usefixtures("forked_workers")
def test_errors_and_stopping_end_the_workers(tmp_path):
    images, labels = oracles.sample(4)
    with pytest.raises(InputError, match="label 9 is out of range: the model has 3 outputs"):
        spectral_importance(
            Slow(tmp_path), (images, labels * 0 + 9), Protocol(2), device=TWO, **OPTIONS
        )
    pids = [int(path.name.split("-")[1]) for path in tmp_path.glob("pid-*")]
    assert pids
    assert os.getpid() not in pids
    assert all(gone(pid) for pid in pids)


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs behind
import oracles, torch
from deadly import Slow
from iaside_plugins import Protocol, spectral_importance
if __name__ == "__main__":
    torch.set_num_threads(1)
    data = oracles.sample(40)
    spectral_importance(Slow(sys.argv[1]), data, Protocol(4), device="cpu,cpu", batch_size=8,
                        resume=sys.argv[2])
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    out.mkdir()
    path = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    parent = subprocess.Popen(
        [sys.executable, str(script), str(out), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(list(out.glob("pid-*"))) == 2)
    os.killpg(parent.pid, end) if end == signal.SIGINT else parent.send_signal(end)  # as Ctrl-C
    error = parent.communicate(timeout=60)[1]
    pids = [int(path.name.split("-")[1]) for path in out.glob("pid-*")]
    wait_until(lambda: all(gone(pid) for pid in pids))
    assert not list(tmp_path.glob("iaside-workers-*"))  # the model is not left behind
    if end == signal.SIGINT:
        assert error.count("Traceback") == 1, error  # the parent's own: workers are silent


@pytest.mark.usefixtures("forked_workers")
def test_what_cannot_be_sent():
    with pytest.raises(InputTypeError, match=r"need a torch\.nn\.Module.* got function"):
        spectral_importance(lambda x: x, oracles.sample(2), Protocol(2), device=TWO)
    with pytest.raises(InputError, match=r"cannot be sent to another process.*of a module"):
        packed(local_class())


@pytest.mark.parametrize("double", [False, True])
def test_a_model_that_can_be_rebuilt_is_sent_by_its_weights(double):
    net = local_class()
    with torch.no_grad():
        net.conv.weight.mul_(1.1)
    net = net.double() if double else net
    net.rebuild = local_class
    found = unpacked(packed(net), torch.device("cpu"))
    for name, tensor in net.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
        assert found.state_dict()[name].dtype == tensor.dtype
    assert not found.training


def test_a_worker_that_cannot_build_the_model_says_so():
    net = local_class()
    net.rebuild = lost
    with pytest.raises(InputError, match=r"cannot build the model \(no such thing\).*__main__"):
        unpacked(packed(net), torch.device("cpu"))


def lost():
    raise FileNotFoundError("no such thing")


@pytest.mark.usefixtures("forked_workers")
def test_a_worker_that_does_not_start_says_so(monkeypatch):
    monkeypatch.setattr(processes, "_work", exits)
    with pytest.raises(InputError, match=r"a worker does not start: exit code 3; .*__main__"):
        spectral_importance(oracles.TinyNet(), oracles.sample(2), Protocol(2), device=TWO)


def _running(net, then, n_images=6):
    """The result of two workers, while something is done to them; what they are for `then`."""
    with device_pool([torch.device("cpu")] * 2) as pool:
        wait_until(lambda: all(worker._process for worker in pool._workers))
        pids = [worker._process.pid for worker in pool._workers]
        then(pids)
        found = spectral_importance(
            net, oracles.sample(n_images), Protocol(3), device=pool, **OPTIONS
        )
    assert all(gone(pid) for pid in pids)
    return found


@pytest.mark.usefixtures("forked_workers")
def test_a_worker_that_dies_while_it_starts_is_replaced():
    net = oracles.TinyNet()
    found = _running(net, lambda pids: os.kill(pids[0], signal.SIGKILL))
    whole = spectral_importance(net, oracles.sample(6), Protocol(3), **OPTIONS)
    np.testing.assert_array_equal(found.per_image, whole.per_image)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
@pytest.mark.usefixtures("forked_workers")
def test_a_worker_that_stands_still_is_replaced(tmp_path, monkeypatch, caplog):
    assert processes.BEAT < processes.SILENT / 2
    monkeypatch.setattr(processes, "_work", beats_often)
    monkeypatch.setattr(processes, "SILENT", 3)

    def stop(pids):
        threading.Thread(target=stop_one, args=(pids[0],)).start()

    def stop_one(pid):
        wait_until(lambda: (tmp_path / f"pid-{pid}").exists())
        os.kill(pid, signal.SIGSTOP)

    found = _running(Slow(tmp_path), stop, 20)
    whole = spectral_importance(oracles.TinyNet(), oracles.sample(20), Protocol(3), **OPTIONS)
    np.testing.assert_array_equal(found.per_image, whole.per_image)
    assert "no sign of life for 3 seconds" in caplog.text
