"""Correlations and ranks over the models of the board."""

from iaside_plugins.leaderboard.statistics.report import statistics

__all__ = ["statistics"]
