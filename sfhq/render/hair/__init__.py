"""Hair of the scalp and of the face."""
