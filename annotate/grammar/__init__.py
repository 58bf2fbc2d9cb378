"""Captions of faces: a weighted grammar that says what is known, and a parser that reads it."""
