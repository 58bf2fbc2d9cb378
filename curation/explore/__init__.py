"""The explorer: faces of parts as a table, vectors, pictures and figures, and its read-only server."""
