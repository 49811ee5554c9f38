"""`python -m iaside_plugins.cli`."""

from iaside_plugins.cli import main

main()
