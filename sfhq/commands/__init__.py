"""Commands that need nothing above this package: parts, weights, training, the doctor."""
