"""What people decided: stored, exchanged, compared."""
