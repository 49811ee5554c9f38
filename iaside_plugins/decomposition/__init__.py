"""Every error that a perturbation causes, split exactly over the bands that were perturbed."""
