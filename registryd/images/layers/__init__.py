"""Layers of an image made one: their headers read, one plan, and what is written from it."""
