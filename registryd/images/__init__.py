"""Images as files outside the cache: OCI layouts, dir: folders."""
