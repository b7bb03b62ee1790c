"""Prefetch jobs: images that many nodes bring ahead of their use, and what each says of it."""
