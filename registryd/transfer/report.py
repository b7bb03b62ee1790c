"""What happens during a transfer, told as events: plain dicts that become JSON lines.

Invariants:
- the keys of an event are an API: readers ignore those they do not know, and none is ever renamed;
- sizes and offsets are bytes, digests are in wire form;
- progress of one blob comes at most about ten times a second, and its last event is never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

from cache.content import Descriptor, Digest
from cache.errors import Fault
from registryd.notices import Notice, Waiting
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.transfer.tags import Stale

Event = dict[str, object]
Report = Callable[[Event], None]
Clock = Callable[[], float]
Kind = Literal["manifest", "config", "layer"]
State = Literal["waiting", "held", "fetching", "pushing", "mounted", "done"]

#: Seconds between two progress events of one blob: smooth to the eye, and few to send.
PROGRESS_INTERVAL: Final = 0.1


def silent(event: Event) -> None:
    """A report that tells nobody."""


def resolved(reference: Reference, descriptor: Descriptor) -> Event:
    """A name was found to mean this manifest."""
    return {
        "event": "resolved",
        "reference": str(reference),
        "digest": str(descriptor.digest),
        "media_type": descriptor.media_type,
        "size": descriptor.size,
    }


def verified(reference: Reference, digest: Digest, key: Path) -> Event:
    """A signature of an image that has to be signed was verified, by the key in this file."""
    return {
        "event": "verified",
        "reference": str(reference),
        "digest": str(digest),
        "key": str(key),
        "message": f"{reference} is signed: verified by {key}",
    }


def warning(stale: Stale) -> Event:
    """Something held was given without its registry's word."""
    return {
        "event": "warning",
        "reference": str(stale.reference),
        "cause": stale.cause,
        "age": round(max(stale.age, 0.0)),
        "message": str(stale),
    }


def notice(told: Notice) -> Event:
    """A registry lets us know that we must wait (``waiting``), or may ask little more."""
    if isinstance(told, Waiting):
        return {
            "event": "waiting",
            "registry": told.registry,
            "host": told.host,
            "seconds": round(told.seconds, 1),
            "status": told.status,
            "message": str(told),
        }
    return {
        "event": "ratelimit",
        "registry": told.registry,
        "account": told.account,
        "limit": told.rate_limit.limit,
        "remaining": told.rate_limit.remaining,
        "message": str(told),
    }


def blob(descriptor: Descriptor, kind: Kind, state: State, *, source: str = "") -> Event:
    """A blob came into a new state; ``source`` is who sends it, where that is known."""
    event: Event = {
        "event": "blob",
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        "kind": kind,
        "state": state,
    }
    return {**event, "source": source} if source else event


def progress(digest: Digest, offset: int, total: int) -> Event:
    """A blob has arrived, or was sent, up to this offset."""
    return {"event": "progress", "digest": str(digest), "offset": offset, "total": total}


def pulled(
    reference: Reference,
    digest: Digest,
    platforms: Iterable[Platform],
    *,
    fetched: int,
    fetched_blobs: int,
    held: int,
    held_blobs: int,
    seconds: float,
    sources: Mapping[str, int] | None = None,
    kept: bool = True,
) -> Event:
    """A pull is done: what had to be fetched (``sources``: blobs by who sent their last bytes), and
    what was there already; not ``kept`` is that there was no room for it.
    """
    moved = {"fetched": fetched, "fetched_blobs": fetched_blobs}
    done = _done(reference, digest, platforms, moved, held, held_blobs, seconds)
    return {**done, "sources": dict(sources or {}), "kept": kept}


def copied(
    reference: Reference | str,
    digest: Digest,
    platforms: Iterable[Platform],
    *,
    sent: int,
    sent_blobs: int,
    held: int,
    held_blobs: int,
    seconds: float,
    index: str | None = None,
    manifests: int = 0,
    unchanged: bool = False,
) -> Event:
    """A push or copy is done; ``reference`` is the destination (``oci:DIR:TAG`` for a file).

    ``index`` is what became of an index there (whole, kept, stripped); ``unchanged``: it was there
    already, so nothing more was looked at.
    """
    moved = {"sent": sent, "sent_blobs": sent_blobs}
    done = _done(reference, digest, platforms, moved, held, held_blobs, seconds)
    return {**done, "index": index, "manifests": manifests, "unchanged": unchanged}


def failed(fault: Fault) -> Event:
    """The work ended with this fault; always the last event."""
    return {
        "event": "failed",
        "message": str(fault),
        "code": fault.code,
        "exit_code": fault.exit_code,
    }


class ProgressLimit:
    """Reports progress, but of each blob no oftener than the interval, and its end always."""

    def __init__(
        self, report: Report, clock: Clock, *, interval: float = PROGRESS_INTERVAL
    ) -> None:
        self._report = report
        self._clock = clock
        self._interval = interval
        self._last: dict[Digest, float] = {}

    def advance(self, digest: Digest, offset: int, total: int) -> None:
        """Say that a blob has come to this offset."""
        now, last = self._clock(), self._last.get(digest)
        if offset >= total:
            self._last.pop(digest, None)
        elif last is not None and now - last < self._interval:
            return
        else:
            self._last[digest] = now
        self._report(progress(digest, offset, total))


def _done(
    reference: Reference | str,
    digest: Digest,
    platforms: Iterable[Platform],
    moved: dict[str, int],
    held: int,
    held_blobs: int,
    seconds: float,
) -> Event:
    return {
        "event": "done",
        "reference": str(reference),
        "digest": str(digest),
        "platforms": [str(platform) for platform in platforms],
        **moved,
        "held": held,
        "held_blobs": held_blobs,
        "seconds": round(seconds, 3),
    }
