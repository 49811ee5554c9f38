"""Rows made by several workers."""
