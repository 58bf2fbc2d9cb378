"""FLIP: images and captions of faces as vectors in one space."""
