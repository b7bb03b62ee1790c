"""How runtimes are told of this node: their files, as values; what stands there; what it does."""
