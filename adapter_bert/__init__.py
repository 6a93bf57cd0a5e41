"""Adapters for BERT: a task trains a few per cent of the model and is carried away as one file."""

__version__ = "0.1.0"
