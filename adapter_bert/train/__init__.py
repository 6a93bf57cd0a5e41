"""Training a task: settings, the loop, evaluation and what a run leaves to read."""
