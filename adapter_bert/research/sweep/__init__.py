"""Sweeps: the runs of an experiment, which processes and machines share, and their results."""
