"""`python -m iaside_plugins`."""

from iaside_plugins.cli import main

main()
