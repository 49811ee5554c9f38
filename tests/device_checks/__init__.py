"""Checks that a device gives what the CPU gives: plain functions, for tests and `gpu_check.py`.

A check takes a device and notes what it measured. Those that no CPU can show are `cuda_only`.
Networks and images are tiny.
"""

from device_checks import every_door, forwards, inputs, memory, processes
from device_checks.checks import CHECKS, run_check

__all__ = ["CHECKS", "every_door", "forwards", "inputs", "memory", "processes", "run_check"]
