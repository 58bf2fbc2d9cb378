"""Whom to draw: recipes of shares, attributes, random numbers."""
