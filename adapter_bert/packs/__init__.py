"""Packs: a trained task as one small file that is checked before a number of it is used."""
