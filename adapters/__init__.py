"""Everything that touches a host library; each adapter is imported by its own name."""
