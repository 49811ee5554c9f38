"""Text and pictures that several rooms share."""
