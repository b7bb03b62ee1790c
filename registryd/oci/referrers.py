"""Lists of what is attached to a manifest, and the tag that holds one where there is no API.

Distribution specification 1.1, "Listing Referrers", "Referrers Tag Schema".
"""

from __future__ import annotations

import json
from typing import Final

from cache.content import Digest
from registryd.oci import fields
from registryd.oci.errors import ManifestInvalid
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, IndexEntry, parse, wire_entry
from registryd.oci.media_types import DOCUMENTS, OCI_INDEX

#: What the tag has of algorithm and digest.
ALGORITHM_LIMIT: Final = 32
HEX_LIMIT: Final = 64


def referrers_in(index: Index, subject: Digest) -> tuple[IndexEntry, ...]:
    """The entries that can be referrers of this subject.

    What names a platform and no artifact type is an image's child: the index is a tagged image
    that happens to be called so.
    """
    return tuple(
        entry
        for entry in index.entries
        if entry.descriptor.digest != subject
        and entry.descriptor.media_type in DOCUMENTS
        and (entry.artifact_type or entry.platform is None)
    )


def fallback_tag(subject: Digest) -> str:
    """The tag under which referrers are listed where there is no API ("Referrers Tag Schema")."""
    return f"{subject.algorithm[:ALGORITHM_LIMIT]}-{subject.hex[:HEX_LIMIT]}"


def entry_of(document: Document) -> IndexEntry:
    """How a list of referrers shows this document (spec, "Listing Referrers")."""
    return IndexEntry(
        document.descriptor,
        annotations=document.annotations,
        artifact_type=document.referrer_type,
    )


def with_entry(before: Index | None, entry: IndexEntry) -> Index:
    """This list, or a new one, with the entry; an older one of the same digest is replaced.

    Raises ManifestInvalid when there is no room.
    """
    members: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    kept: list[object] = []
    if before is not None:
        members = fields.load(before.raw)
        listed = zip(before.entries, fields.entries(members, "manifests"), strict=True)
        digest = entry.descriptor.digest
        kept = [raw for known, raw in listed if known.descriptor.digest != digest]
    members["manifests"] = [*kept, wire_entry(entry)]
    raw = json.dumps(members, separators=(",", ":")).encode()
    if len(raw) > MANIFEST_LIMIT:
        raise ManifestInvalid(
            f"the list of referrers would have {len(raw)} bytes, {MANIFEST_LIMIT} are allowed"
        )
    found = parse(raw)
    assert isinstance(found, Index)  # noqa: S101 (it has manifests)
    return found
