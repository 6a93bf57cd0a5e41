"""Training: hyper-parameters by default, and noticing that a run learns nothing."""
