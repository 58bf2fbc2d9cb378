"""Sets of photos that others made, with the labels that came with them, as parts."""
