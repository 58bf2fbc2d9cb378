"""Exact labels of a rendered person: classes and landmarks."""
