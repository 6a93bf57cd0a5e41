"""Hyper-parameter search: many runs of one task, of which the best is kept."""
