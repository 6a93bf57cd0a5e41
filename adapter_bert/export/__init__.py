"""Packs as SavedModels: signatures, the tokenizer as a graph, and bulk prediction on Beam."""
