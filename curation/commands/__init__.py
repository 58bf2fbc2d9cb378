"""Commands that choose photos: judging them, tastes, near-duplicates."""
