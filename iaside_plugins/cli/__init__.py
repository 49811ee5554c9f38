"""The `iaside` command."""

from iaside_plugins.cli.command import app, main

__all__ = ["app", "main"]
