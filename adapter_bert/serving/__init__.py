"""Serving: many tasks on one BERT, as a SavedModel and as an HTTP server."""
