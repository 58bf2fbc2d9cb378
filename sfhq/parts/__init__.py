"""A dataset part on disk: its records, arrays and images, and how they are read."""
