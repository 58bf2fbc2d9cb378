"""The labelling page: a sitting, its server, its figures."""
