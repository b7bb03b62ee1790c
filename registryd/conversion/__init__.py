"""Conversions: an image as one file system, made once and kept with its image."""
