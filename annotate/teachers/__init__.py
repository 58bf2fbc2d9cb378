"""Networks of others that teach the label network on photos; nothing of them is shipped."""
