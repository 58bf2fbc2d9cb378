"""Formats of exports, one a module; `table.py` lists them."""
