"""The version, on its own: the records of a run name it without importing the package."""

__version__ = "0.1.0"
