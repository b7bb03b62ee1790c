"""A daemon that is killed at every step of its work on the disk, and what is left of its cache."""
