"""Kept for imports of earlier versions: the module is `iaside_plugins.corruptions.error_rates`."""

from iaside_plugins.corruptions.error_rates import load_reference

__all__ = ["load_reference"]
