"""The published studies of the repository."""
