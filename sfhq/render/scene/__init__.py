"""A person before the camera: surfaces, light, backdrop, picture."""
