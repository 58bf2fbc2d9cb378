"""What the labels of a photo are, and how they are read off it."""
