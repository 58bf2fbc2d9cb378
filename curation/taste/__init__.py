"""A person's taste as a model: learned, judged, reported."""
