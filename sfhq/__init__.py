"""What a dataset part is, and how its photos come to be."""
