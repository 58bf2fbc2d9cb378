"""Linear probes: one more attribute from vectors that are there, by labels, words or prompts."""
