"""What the index.json of a lower store says (pure).

Invariant: strangers may have written it. What cannot be understood is left out, entry by entry; a
file that is no index at all (half of one, while it is written) is told apart from an empty one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import CacheError
from cache.layout import INDEX_TYPE, MADE_OF, REF_NAME

#: Largest index.json: room for a store with tens of thousands of names.
INDEX_LIMIT: Final = 64 << 20
#: Where docker and containerd write the full name; there ref.name is the bare tag.
FULL_NAME: Final = "io.containerd.image.name"
#: When a registry last said that a name means this (RFC 3339).
CHECKED: Final = "vnd.registryd.checked"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a name means, and when (Unix seconds) a registry last said so."""

    descriptor: Descriptor
    checked: float


@dataclass(frozen=True, slots=True)
class LowerIndex:
    """What names mean, and what was made of which manifest."""

    names: Mapping[str, Listed] = field(default_factory=dict)
    made: Mapping[Digest, tuple[Descriptor, ...]] = field(default_factory=dict)


def parse(content: bytes, modified: float) -> LowerIndex | None:
    """What these bytes say; None when they are no index. ``modified`` is the file's own time."""
    try:
        entries = json.loads(content)["manifests"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(entries, list):
        return None
    names: dict[str, Listed] = {}
    made: dict[Digest, tuple[Descriptor, ...]] = {}
    for entry in entries:
        with suppress(CacheError, KeyError, ValueError, TypeError, AttributeError, OverflowError):
            descriptor = Descriptor(
                str(entry["mediaType"]), Digest.parse(entry["digest"]), int(entry["size"])
            )
            notes = entry["annotations"]
            if MADE_OF in notes:
                subject = Digest.parse(notes[MADE_OF])
                made[subject] = (*made.get(subject, ()), descriptor)
            elif name := notes.get(FULL_NAME) or notes.get(REF_NAME):
                names[str(name)] = Listed(descriptor, _checked(notes.get(CHECKED), modified))
    return LowerIndex(names, made)


def _checked(said: object, modified: float) -> float:
    """What an entry says, but never what is still to come: that would win for ever."""
    with suppress(ValueError, TypeError, OverflowError):
        moment = datetime.fromisoformat(str(said))
        return min(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp(), modified)
    return modified


def entry(descriptor: Descriptor, name: str, checked: float) -> dict[str, object]:
    """How a name is written."""
    moment = datetime.fromtimestamp(checked, UTC).isoformat(timespec="seconds")
    return _entry(descriptor, {REF_NAME: name, CHECKED: moment})


def made_entry(descriptor: Descriptor, subject: Digest) -> dict[str, object]:
    """How it is written what something was made of."""
    return _entry(descriptor, {MADE_OF: str(subject)})


def _entry(descriptor: Descriptor, notes: dict[str, str]) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        "annotations": notes,
    }


def merged(
    listing: Mapping[str, object], entries: list[dict[str, object]], gone: frozenset[str]
) -> dict[str, object]:
    """An index.json with these entries in place of those of their names; others stay.

    Without the names that are ``gone``. Members that we do not know stay as they are.
    """
    before = listing.get("manifests")
    others = before if isinstance(before, list) else []
    places = {_place(each) for each in entries} | {("", name) for name in gone}
    kept = [each for each in others if not _place_of(each) & places]
    head: dict[str, object] = {"schemaVersion": 2, "mediaType": INDEX_TYPE}
    return {**head, **listing, "manifests": [*kept, *entries]}


def _place(entry: object) -> tuple[str, str]:
    return next(iter(_place_of(entry)), ("", ""))


def _place_of(entry: object) -> set[tuple[str, str]]:
    """What an entry is the only one of: its names, or its digest for what was made."""
    notes = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(notes, dict):
        return set()
    if MADE_OF in notes:
        return {(str(notes[MADE_OF]), str(entry.get("digest")))}
    return {("", str(notes[key])) for key in (REF_NAME, FULL_NAME) if notes.get(key)}
