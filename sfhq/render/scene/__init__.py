"""The scene: a posed person, camera, light, background, and the path-traced picture."""
