"""A Hugging Face hub on the loopback address, with the repositories that a test gives it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Repositories = dict[str, dict[str, bytes]]  # by owner/name: bytes by path


class _Answers(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks for: a repository's files, and a file at a revision."""

    server: Any

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = self.server.repositories.get("/".join(parts[2:4]))
            found = [{"rfilename": name} for name in files or ()]
            return self.send(200 if files else 404, json.dumps({"siblings": found}).encode())
        files = self.server.repositories.get("/".join(parts[:2]))
        if files is None:
            return self.send(401, b"", {"X-Error-Code": "RepoNotFound"})
        revision, name = parts[3], "/".join(parts[4:])
        if revision not in ("main", "v1", COMMIT):
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if name not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        etag = hashlib.sha1(files[name]).hexdigest()
        return self.send(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def hub(repositories: Repositories) -> Iterator[Any]:
    """Serve repositories; the server has an address `url` and a list of what was `asked`."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.repositories, server.asked = repositories, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
