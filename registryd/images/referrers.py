"""What a layout lists as attached to a manifest.

There are two ways to say it, and both are read: an artifact's own entry in index.json, and the tag
``sha256-HEX`` whose index lists the artifacts as a registry without the referrers API would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from cache.content import Descriptor, Digest
from registryd.oci.errors import BlobUnknown
from registryd.oci.manifest import Document, Index, IndexEntry
from registryd.oci.media_types import DOCUMENTS
from registryd.oci.referrers import entry_of, fallback_tag, referrers_in


def find_referrers(
    subject: Digest,
    listed: Iterable[tuple[Descriptor, Sequence[str]]],
    read: Callable[[Descriptor], Document],
) -> tuple[IndexEntry, ...]:
    """The referrers among what index.json lists, each digest once.

    ``listed`` are its entries with their names. Raises what ``read`` raises, but what is listed
    and not there is passed over.
    """
    tag = fallback_tag(subject)
    found: dict[Digest, IndexEntry] = {}
    for descriptor, names in listed:
        if descriptor.media_type not in DOCUMENTS or descriptor.digest == subject:
            continue
        with suppress(BlobUnknown):
            document = read(descriptor)
            if document.subject is not None and document.subject.digest == subject:
                found[document.digest] = entry_of(document)
            if tag in names and isinstance(document, Index):
                for entry in referrers_in(document, subject):
                    found.setdefault(entry.descriptor.digest, entry)
    return tuple(found.values())
