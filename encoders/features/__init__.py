"""Images to vectors: recognition, CLIP and other features."""
