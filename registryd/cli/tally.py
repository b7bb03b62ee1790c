"""What a stream of events amounts to: which blobs there are, and how far each is (pure).

Unknown events, keys and states change nothing: a newer daemon may send them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: States in which a blob needs nothing more.
SETTLED = frozenset({"held", "mounted", "done"})
MOVING = frozenset({"fetching", "pushing"})


@dataclass(slots=True)
class BlobState:
    """One blob on its way."""

    digest: str
    kind: str = "blob"
    size: int = 0
    state: str = "waiting"
    source: str = ""
    offset: int = 0

    @property
    def settled(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in SETTLED


@dataclass(slots=True)
class Tally:
    """All blobs of one pull, push or copy; ``moved`` counts the bytes seen to arrive."""

    blobs: dict[str, BlobState] = field(default_factory=dict)
    moved: int = 0

    def take(self, event: dict[str, Any]) -> BlobState | None:
        """Note an event; the blob whose state it changed, or None."""
        if event.get("event") == "progress":
            self._progress(event)
        if event.get("event") == "converting":
            event = self._conversion(event)
        if event.get("event") != "blob" or "digest" not in event:
            return None
        blob = self._blob(str(event["digest"]))
        changed = event.get("state", blob.state) != blob.state
        blob.kind = str(event.get("kind") or blob.kind)
        blob.size = int(event.get("size") or blob.size)
        blob.state = str(event.get("state") or blob.state)
        blob.source = str(event.get("source") or blob.source)
        if blob.settled:
            blob.offset = blob.size
        return blob if changed else None

    def _progress(self, event: dict[str, Any]) -> None:
        blob = self._blob(str(event.get("digest")))
        offset = int(event.get("offset") or 0)
        # What is there before the first event was there before us (a resumed blob).
        self.moved += max(0, offset - blob.offset) if blob.offset else 0
        blob.offset = offset
        blob.size = int(event.get("total") or blob.size)

    def _conversion(self, event: dict[str, Any]) -> dict[str, Any]:
        """An image that is made one file, as the event of a blob by its manifest's digest."""
        self._progress(event)
        done = event.get("offset") == event.get("total")
        state, size = "done" if done else "converting", event.get("total")
        kind, digest = event.get("form"), str(event.get("digest"))
        return {"event": "blob", "digest": digest, "kind": kind, "size": size, "state": state}

    def _blob(self, digest: str) -> BlobState:
        return self.blobs.setdefault(digest, BlobState(digest))

    @property
    def offset(self) -> int:
        """Bytes that are there, of all blobs."""
        return sum(min(blob.offset, blob.size) for blob in self.blobs.values())

    @property
    def size(self) -> int:
        """Bytes of all blobs that are known by now."""
        return sum(blob.size for blob in self.blobs.values())

    @property
    def left(self) -> int:
        """Blobs that are not settled."""
        return sum(not blob.settled for blob in self.blobs.values())
