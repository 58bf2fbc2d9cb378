"""Exact labels of a rendered person: classes, landmarks."""
