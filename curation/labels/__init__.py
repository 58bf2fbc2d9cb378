"""Labels: how they are stored, exchanged and compared."""
