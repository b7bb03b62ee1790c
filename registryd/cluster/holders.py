"""Who holds a blob: each node listens on the subjects of those that it holds or is receiving.

A question goes to GROUPS queue groups, and to one member of each, by NATS's choice: so it reaches
as many holders at most, however many there are, and nobody has to keep a directory. Where nobody
listens, NATS says so at once.

Invariants:
- a node listens for KEPT blobs at most, the newest ones, and for none of less than LEAST bytes: a
  subscription costs the server about 1.3 kB for each node that has it;
- an answer is from a node that is connected now; that it still has the blob is for it to say
  again when it is asked for bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from cache.content import Digest
from registryd.cluster.nats_connection import Message
from registryd.cluster.nats_link import NatsLink, Subscribed
from registryd.cluster.placement import node_seed

#: A smaller blob comes from its registry in less time than it takes to ask around.
LEAST: Final = 1 << 20
KEPT: Final = 256
#: Queue groups, and so the holders that one question finds.
GROUPS: Final = 4
#: Seconds for the first answer where somebody listens: holders may be busy.
WITHIN: Final = 0.2
#: The others have as long again as the first one took.
AFTER: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Held:
    subscribed: Subscribed
    answer: bytes


class Holders:
    """What this node tells that it holds, and what it is told by others."""

    def __init__(self, link: NatsLink, prefix: str, me: str) -> None:
        self._link = link
        self._prefix = prefix
        self._me = me
        self._queue = f"h{node_seed(me) % GROUPS}"
        #: By subject; the oldest first.
        self._held: dict[str, _Held] = {}

    def holds(self, digest: Digest, *, size: int, whole: bool) -> None:
        """Answer for this blob from now on."""
        if size < LEAST:
            return
        subject = self._subject(digest)
        known = self._held.pop(subject, None)
        subscribed = (
            self._link.subscribe(subject, self._answer, queue=self._queue)
            if known is None
            else known.subscribed
        )
        answer = json.dumps({"name": self._me, "whole": whole}).encode()
        self._held[subject] = _Held(subscribed, answer)
        if len(self._held) > KEPT:
            self._forget(next(iter(self._held)))

    def lets_go(self, digest: Digest) -> None:
        """Answer for it no more."""
        subject = self._subject(digest)
        if subject in self._held:
            self._forget(subject)

    def _forget(self, subject: str) -> None:
        self._held.pop(subject).subscribed.end()

    def _answer(self, message: Message) -> None:
        held = self._held.get(message.subject)
        if held is not None and message.reply:
            self._link.publish(message.reply, held.answer)

    async def find(self, digest: Digest) -> tuple[tuple[str, bool], ...]:
        """Some of the other nodes that have it, and whether whole."""
        messages = await self._link.gather(
            self._subject(digest), most=GROUPS, within=WITHIN, after=AFTER
        )
        answers = (_parsed(message.content) for message in messages)
        return tuple(each for each in answers if each is not None and each[0] != self._me)

    def _subject(self, digest: Digest) -> str:
        return f"{self._prefix}.has.{digest.algorithm}-{digest.hex}"


def _parsed(raw: bytes) -> tuple[str, bool] | None:
    """An answer, or None for what is none."""
    try:
        said = json.loads(raw)
        name, whole = said["name"], said["whole"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return (name, whole) if isinstance(name, str) and isinstance(whole, bool) else None
