"""Spectral importance of a model: the run and its result."""
