"""I-ASIDE: how much of a classifier's predictive power each spatial-frequency band carries."""

from iaside_plugins.bands import SpectralPartition
from iaside_plugins.comparison import Comparison, compare
from iaside_plugins.corruption_error import mean_corruption_error
from iaside_plugins.errors import InputError
from iaside_plugins.importance import spectral_importance
from iaside_plugins.paired import paired_importance
from iaside_plugins.protocol import Protocol
from iaside_plugins.result import SpectralImportance

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "InputError",
    "Protocol",
    "SpectralImportance",
    "SpectralPartition",
    "compare",
    "mean_corruption_error",
    "paired_importance",
    "spectral_importance",
]
