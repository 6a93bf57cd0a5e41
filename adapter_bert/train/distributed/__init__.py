"""Several processes train one task: who is who, and the sums of their gradients."""
