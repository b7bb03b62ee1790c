"""Whether a place on disk has a manifest with everything that it points to.

Invariant: content is believed by its name and size, as everywhere here; it is not hashed again.
"""

from __future__ import annotations

from collections.abc import Callable

from cache.content import Descriptor, Digest
from cache.errors import Fault
from registryd.oci.manifest import Document, Index
from registryd.oci.media_types import DOCUMENTS


def is_complete(
    root: Descriptor,
    document: Callable[[Descriptor], Document],
    held: Callable[[Descriptor], bool],
) -> bool:
    """Whether ``root`` is here whole; ``document`` reads a manifest, and raises without it."""
    seen: set[Digest] = set()
    left = [root]
    while left:
        descriptor = left.pop()
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        try:
            found = document(descriptor)
        except Fault:
            return False
        for child in found.children:
            if isinstance(found, Index) and child.media_type in DOCUMENTS:
                left.append(child)
            elif not held(child):
                return False
    return True
