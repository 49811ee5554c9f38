"""The `iaside` command."""

from iaside_plugins.cli.entry_point import app, main

__all__ = ["app", "main"]
