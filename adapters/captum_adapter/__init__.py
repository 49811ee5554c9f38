"""I-ASIDE for Captum's users (extra `captum`): everything there is to import, in one place.

- `SpectralShapley`: the method, for each example (`attribute`) or a data set
  (`attribute_dataset`); the errors that perturbations cause (`explain_dataset`).
- `BandSplit`: splits images into bands, so that any method of Captum's can run in band space.
- `band_attributions`: runs one there, by its short name (`METHODS`) or its class.
- `heat_map_spectrum`: the spatial spectrum of a finished heat map, which is another quantity.
- `compare_attributions`: I-ASIDE and Captum's methods on the same images, as a report.
- `visualization.visualize_bands`: an image, its band images, and a bar under each.
"""

from iaside_plugins.adapters.captum_adapter.comparison import compare_attributions
from iaside_plugins.adapters.captum_adapter.methods import METHODS, band_attributions
from iaside_plugins.adapters.captum_adapter.spectral_shapley import SpectralShapley
from iaside_plugins.adapters.captum_adapter.visualization import visualize_bands
from iaside_plugins.attributions.band_space import BandSplit, heat_map_spectrum

__all__ = [
    "METHODS",
    "BandSplit",
    "SpectralShapley",
    "band_attributions",
    "compare_attributions",
    "heat_map_spectrum",
    "visualize_bands",
]
