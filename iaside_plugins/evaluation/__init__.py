"""A model under corruptions and attacks."""
