"""How well the labels of a part agree with the truth, and what they look like."""
