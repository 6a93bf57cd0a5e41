"""Meta-learning: a start from which a new domain is learned from a handful of examples."""
