"""Rows computed by several workers."""
