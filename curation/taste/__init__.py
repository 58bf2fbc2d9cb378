"""A person's taste as a model: how it is fitted, measured and reported."""
