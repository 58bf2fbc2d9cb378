"""Which triangle each sample of an image sees."""
