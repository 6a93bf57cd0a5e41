"""First-order meta-learning: a start from which a few examples teach a new domain."""
