"""Rendered heads with exact labels."""
