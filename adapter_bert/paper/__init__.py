"""The paper, reproduced: sweeps of runs, and tables and figures of their results."""
