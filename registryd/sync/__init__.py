"""Many images kept the same in two places: which ones, and how each is brought over."""
