"""The nodes of a cluster share what they hold: who owns a chunk, whom to ask, whom to serve."""
