"""A bundle of the OCI runtime specification: an image's root, and how it is run."""
