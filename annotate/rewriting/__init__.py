"""Captions rewritten by a language model, checked word for word."""
