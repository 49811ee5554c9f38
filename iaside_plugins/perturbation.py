"""Kept for imports of earlier versions: the module is `iaside_plugins.spectra.perturbation`."""

from iaside_plugins.spectra.perturbation import perturbation_spectrum

__all__ = ["perturbation_spectrum"]
