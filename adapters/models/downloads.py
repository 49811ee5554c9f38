"""Downloads: quiet, and quick to fail where there is no network."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from iaside_plugins.errors import InputError, error_text

PATIENCE = 8.0  # seconds to reach a server before the download counts as impossible
STALL = 30.0  # seconds without a byte before a running download is given up


def cached_file(url: str) -> Path | None:
    """Return the file that torch.hub has downloaded from an address before, or None."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    return file if file.is_file() else None


def unreachable(url: str) -> str | None:
    """Return why a server cannot be reached, or None if it can.

    Without a network the hosts retry for minutes, or wait as long as the system does; one
    connection with a deadline answers within `PATIENCE` seconds. Behind a proxy a direct
    connection proves nothing, so the answer is None and the download is tried.
    """
    parts = urlsplit(url)
    if parts.scheme in getproxies() or "all" in getproxies():
        return None
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(f"cannot reach {host}: {error}")

    # In a thread, because name look-up has no time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return outcome[0] if outcome else f"cannot reach {host}: no answer in {PATIENCE:.0f} s"


@contextlib.contextmanager
def quiet_download() -> Iterator[None]:
    """Limit how long a download may stall, and silence the host's messages."""
    before = socket.getdefaulttimeout()
    client = logging.getLogger("huggingface_hub")
    level = client.level
    socket.setdefaulttimeout(STALL)
    client.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        client.setLevel(level)
        socket.setdefaulttimeout(before)


def cause(error: Exception | str) -> str:
    """Return why something could not be had, on one line."""
    return error_text(error if isinstance(error, str) else f"{type(error).__name__}: {error}", 200)


def no_weights(spec: str, error: Exception | str) -> InputError:
    """Return the error for weights that could not be downloaded, with the cause in one line."""
    return InputError(
        f"the pretrained weights of {spec} could not be had ({cause(error)}); download them where "
        "there is a network and give them with weights=FILE (.safetensors or .pth)"
    )
