"""Marks that say an image is synthetic: its XMP packet, a watermark, a signed manifest."""
