"""What a published part has to prove: where it comes from, that it is whole, and what it is."""
