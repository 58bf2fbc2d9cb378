"""Training a generator on little data; evaluating it in a space it was not trained on."""
