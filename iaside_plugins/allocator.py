"""Memory that was freed stays with the process: asking the system again costs more than a pass."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for the next forward pass on a CPU.

    By default glibc gives large blocks back to the system as soon as they are freed, and gets them
    again page by page: half of the CPU time of small convolutional networks on large batches. No
    value changes; the process holds the most that it ever needed, and some more.

    Returns:
        Whether it was done: not on another C library, nor where the user has set the allocator
        up (MALLOC_TRIM_THRESHOLD_ and others, GLIBC_TUNABLES, LD_PRELOAD).
    """
    given = ("GLIBC_TUNABLES", "LD_PRELOAD")
    if sys.platform != "linux" or any(os.environ.get(name) for name in given):
        return False
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018  another C library may lack it
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _MOST))
