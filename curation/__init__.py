"""Which photos stay."""
