"""Commands for studies of many runs."""
