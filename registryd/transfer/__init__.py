"""Making digests present: one flight a digest, pull, push and copy over the ports."""
