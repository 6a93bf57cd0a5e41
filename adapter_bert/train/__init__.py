"""Training a task: settings, the loop, evaluation, and the report of a run."""
