"""Adapters to host libraries; each is imported by its own name."""
