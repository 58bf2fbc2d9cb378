"""Labels read off a photo."""
