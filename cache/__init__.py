"""A store of verified bytes: knows digests, files and links, but no network and no images."""
