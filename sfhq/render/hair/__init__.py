"""Grow hair on the scalp and on the face."""
