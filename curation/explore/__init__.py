"""The explorer: faces of parts as a table, their vectors, pictures and figures, and its server."""
