"""Running a model: checks, memory, precision and speed."""
