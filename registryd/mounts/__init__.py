"""Images as folders: squashfs files mounted read-only, and let go when nobody uses them."""
