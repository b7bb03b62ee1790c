"""Upkeep: what a node does for its cache while nobody asks for anything."""
