"""registryd: an OCI registry client and node-local image cache daemon."""

__version__ = "0.1.0"
