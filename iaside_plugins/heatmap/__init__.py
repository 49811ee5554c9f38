"""Fourier heat map: errors under noise of one spatial frequency at a time."""
