"""Networks that several packages read: the backbone, and the label network that stands on it."""
