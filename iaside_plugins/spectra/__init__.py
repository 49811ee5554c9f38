"""Spectra of perturbations."""
