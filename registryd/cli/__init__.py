"""registryctl: one file a command, over a daemon's socket or in-process."""
