"""Draw random people: recipes of shares, attributes, random numbers."""
