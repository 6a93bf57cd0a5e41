"""Adapters for BERT: train a task as a few per cent of the model, and carry it away as one small file."""

__version__ = "0.1.0"
