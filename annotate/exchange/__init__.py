"""Labels of a part in the formats of other programs."""
