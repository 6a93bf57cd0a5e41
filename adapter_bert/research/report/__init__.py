"""Tables, figures and statistics of a sweep, as in the paper."""
