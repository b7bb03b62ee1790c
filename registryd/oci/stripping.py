"""A new index that lists only some entries of another.

Invariants:
- what is kept stands as it stood, in the same order; every other member of the index (media type,
  annotations, subject, artifact type) stays;
- nothing taken away: the index itself comes back, digest and all.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from cache.content import Digest
from registryd.oci import fields
from registryd.oci.errors import ManifestInvalid
from registryd.oci.manifest import Index, parse

#: On an entry that belongs to another one of the same index, such as its provenance: whose it is.
BELONGS_TO = "vnd.docker.reference.digest"


def with_belongings(index: Index, chosen: Collection[Digest]) -> frozenset[Digest]:
    """These entries of an index, and those that say that they belong to one of them."""
    wanted = {str(digest) for digest in chosen}
    return frozenset(chosen) | {
        entry.descriptor.digest
        for entry in index.entries
        if entry.annotations.get(BELONGS_TO) in wanted
    }


def stripped(index: Index, kept: Collection[Digest]) -> Index:
    """An index of the kept entries alone (image specification 1.1, "Image Index")."""
    if all(entry.descriptor.digest in kept for entry in index.entries):
        return index
    members = fields.load(index.raw)
    members["manifests"] = [
        value
        for entry, value in zip(index.entries, fields.entries(members, "manifests"), strict=True)
        if entry.descriptor.digest in kept
    ]
    raw = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
    made = parse(raw, index.media_type)
    if not isinstance(made, Index):  # parse decides by the same members as before
        raise ManifestInvalid(f"{index.digest} cannot be stripped")
    return made
