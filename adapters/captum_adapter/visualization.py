"""Pictures of bands for Captum's users; the module has the name that Captum's has."""

from iaside_plugins.visualization import visualize_bands

__all__ = ["visualize_bands"]
