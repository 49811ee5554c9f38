"""Entries as one table of raw numbers, and how they are printed."""
