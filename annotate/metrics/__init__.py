"""How well labels agree with the truth: of masks, of points, of attributes."""
