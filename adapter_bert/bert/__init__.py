"""Base models: where they come from, and how their files are read."""
