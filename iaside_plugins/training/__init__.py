"""Spectral profiles during a training: what an epoch callback records, whatever the host."""

from iaside_plugins.training.history import SpectralHistory

__all__ = ["SpectralHistory"]
