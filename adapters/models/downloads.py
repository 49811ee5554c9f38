"""A host's own download of pretrained weights: quick to fail, quiet, and never a random network."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies

from iaside_plugins.errors import InputError

_log = logging.getLogger(__name__)
PATIENCE = 8.0  # seconds to reach a server before the download counts as impossible
STALL = 30.0  # seconds without a byte before a running download is given up


def unreachable(url: str) -> str | None:
    """Say why a server cannot be reached, or None where it can.

    The hosts retry for minutes, or wait as long as the system does, where there is no network;
    one connection with a deadline answers within `PATIENCE` seconds. Behind a proxy a direct
    connection proves nothing, so the download is left to try.
    """
    if "https" in getproxies() or "all" in getproxies():
        return None
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(f"cannot reach {host}: {error}")

    # In a thread, because name look-up has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return outcome[0] if outcome else f"cannot reach {host}: no answer in {PATIENCE:.0f} s"


@contextlib.contextmanager
def quiet_download() -> Iterator[None]:
    """Give up a stalled download, and keep the host's messages from standard output and the log."""
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


def not_had(spec: str, error: Exception | str) -> InputError:
    """The one error for weights that could not be downloaded, with the cause in one line."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    cause = " ".join(text.split())[:200]
    return InputError(
        f"the pretrained weights of {spec} could not be had ({cause}); download them where there "
        "is a network and give them with weights=FILE (.safetensors or .pth)"
    )
