"""A run: from settings and data to a trained task, its scores and its predictions."""
