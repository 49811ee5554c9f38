"""Images and their frequency bands."""
