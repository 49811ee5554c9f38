"""Coalitions of bands through a model: the value table."""
