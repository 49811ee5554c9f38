"""The published board: entries, their checks, and the tables built from them."""
