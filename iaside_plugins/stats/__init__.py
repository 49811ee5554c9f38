"""Intervals, correlations and permutation tests."""
