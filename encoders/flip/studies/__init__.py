"""Open questions about training images with texts, as experiments that anybody can repeat."""
