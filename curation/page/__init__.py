"""The labelling page: its session, its server, its figures."""
