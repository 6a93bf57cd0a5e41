"""Serving: many tasks on one BERT as an HTTP server."""
