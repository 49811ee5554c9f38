"""Memory that was freed stays with the process, where the user has not set the allocator up."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from iaside_plugins import allocator

HELD = """
import resource, runpy, sys
from pathlib import Path

keep_freed_memory = runpy.run_path(sys.argv[2])["keep_freed_memory"]

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

done = keep_freed_memory() if sys.argv[1] == "keep" else None
before = held()
block = bytearray(200_000_000)
del block
print(done, held() - before > 100_000_000)
"""


def held(what: str, **environment: str) -> str:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    run = subprocess.run(
        [sys.executable, "-c", HELD, what, allocator.__file__],
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_stays():
    assert held("leave") == "None False"
    assert held("keep") == "True True"
    assert held("keep", MALLOC_ARENA_MAX="2") == "False False"
