"""The head itself: mesh, eyes, skin, and its measures."""
