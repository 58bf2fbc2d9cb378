"""Commands that label photos, and of training the network that does."""
