"""Files, rows of a run and provenance."""
