"""I-ASIDE: how much of a classifier's predictive power each spatial-frequency band carries."""

from iaside_plugins import interrupts as _interrupts  # noqa: F401  first: the others take seconds
from iaside_plugins._version import __version__ as __version__
from iaside_plugins.corruptions.error_rates import mean_corruption_error
from iaside_plugins.decomposition.comparison import combine, compare, difference
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.errors import InputError
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.heatmap.run import fourier_heatmap
from iaside_plugins.importance.comparison import Comparison, paired_importance
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.protocol import Protocol
from iaside_plugins.spectral.partition import SpectralPartition

__all__ = [
    "Comparison",
    "Condition",
    "ErrorDecomposition",
    "FourierHeatMap",
    "InputError",
    "Protocol",
    "SpectralImportance",
    "SpectralPartition",
    "combine",
    "compare",
    "difference",
    "error_decomposition",
    "fourier_heatmap",
    "mean_corruption_error",
    "paired_importance",
    "spectral_importance",
]
