"""Checking: whether a chunk that came from peers is the right one, and who made a wrong one.

Invariants:
- the word of a chunk's owner decides (of those who stand in for it, where it does not say); what
  came from the registry alone needs nobody's word, and what an owner took from a holder needs
  another holder's;
- nobody's word is asked for more than ``PATIENCE`` seconds; a chunk for which nobody speaks stays
  unproven until the whole blob is: that is no fault of its sender;
- a liar is one who said that it had proven the chunk, and whose bytes or word a second voice
  contradicts; whoever passed on what another sent is only left for a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum

from cache.content import Digest
from registryd.cluster.chunk_hashes import span_digest
from registryd.cluster.company import Effort, Sender
from registryd.cluster.errors import PeerFault
from registryd.cluster.peers import Failure

#: Seconds for one node's word about one chunk: it may have to wait for its own check of it.
PATIENCE = 3.0
#: How many nodes are asked about one chunk.
ASKED = 3

_log = logging.getLogger(__name__)


class Verdict(Enum):
    """What is known of a chunk."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPROVEN = "unproven"


@dataclass(slots=True)
class Record:
    """A chunk as it was when it was checked: its hash, who sent it, who vouched for it."""

    digest: Digest
    senders: tuple[Sender, ...]
    voucher: str = ""


class Checking:
    """The checks of one blob's chunks."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort
        self._records: dict[int, Record] = {}

    async def judge(self, chunk: int) -> Verdict:
        """Whether a chunk that is here is the right one. Raises IngestAborted, StoreUnusable."""
        effort = self._effort
        senders = tuple(effort.senders.get(chunk, ()))
        start, stop = effort.geometry.span(chunk)
        async with effort.company.hashes.threads:
            ours = await effort.ingest.part_digest(start, stop)
        record = self._records[chunk] = Record(ours, senders)
        if effort.ingest.is_checked(start, stop):
            self._vouch(chunk, ours)
            return Verdict.RIGHT
        verdict = await self._compare(chunk, record)
        effort.company.counts.checks[verdict.value] += 1
        if verdict is Verdict.RIGHT:
            self._vouch(chunk, ours)
        return verdict

    def _vouch(self, chunk: int, digest: Digest) -> None:
        self._effort.company.hashes.keep(self._effort.errand.digest, chunk, digest)

    async def _compare(self, chunk: int, record: Record) -> Verdict:
        senders = {each.node for each in record.senders}
        async with aclosing(self._words(chunk, senders)) as words:
            node, word = await _next(words)
            if word is None:
                return Verdict.UNPROVEN
            if word == record.digest:
                record.voucher = node
                return Verdict.RIGHT
            if senders == {node}:
                return Verdict.WRONG  # its bytes are not what it says itself
            other, second = await _next(words)
        if second != record.digest:
            return Verdict.WRONG
        record.voucher = other
        self.lied(node, chunk)
        return Verdict.RIGHT

    async def _words(
        self, chunk: int, senders: set[str]
    ) -> AsyncGenerator[tuple[str, Digest], None]:
        """What others say that the chunk hashes to, the one who knows it best first."""
        told = self._effort.words.pop(chunk, None)
        asked = set()
        if told is not None and self._speaks(told[0]):
            asked.add(told[0])
            yield told
        for node in self._authorities(chunk, senders):
            if node not in asked and len(asked) < ASKED and self._speaks(node):
                asked.add(node)
                word = await self._word(node, chunk)
                if word is not None:
                    yield node, word

    def _authorities(self, chunk: int, senders: set[str]) -> Iterable[str]:
        """Who may speak for a chunk: its owner and those who stand in for it.

        If it is ours, holders of the whole blob. They speak to nobody else: their word would be
        taken for bytes that are their own, and came through others.
        """
        effort = self._effort
        fetching, placement = effort.fetching, effort.company.placement
        owner = fetching.owner(chunk, effort.now)
        line = placement.ranked(fetching.blob, chunk, ASKED)
        if owner == effort.company.me:
            return [node for node in effort.holders if node not in senders]
        first = [] if owner is None else [owner]
        # Nobody but the owner speaks for what it has sent itself.
        return [*first, *(node for node in line if node != owner and node not in senders)]

    def _speaks(self, node: str) -> bool:
        company = self._effort.company
        return (
            node != company.me
            and node in company.placement
            and company.peers.usable(node, self._effort.now)
        )

    async def _word(self, name: str, chunk: int) -> Digest | None:
        effort = self._effort
        node = effort.company.cluster.find(name)
        if node is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                return await effort.company.client.chunk_digest(
                    node, effort.repository, effort.errand.digest, chunk
                )
        except (PeerFault, TimeoutError):
            return None

    def blame(self, chunk: int) -> tuple[str, bool]:
        """Who sent a wrong chunk last, and whether it is sure that it was this one who lied."""
        senders = self._effort.senders.get(chunk, [])
        if not senders:
            return "", False
        sure = len(senders) == 1 and senders[0].checked
        if sure:
            self._name(senders[0].node, chunk)
        for each in senders[:-1]:
            # Bytes of several senders were wrong: which of them lied is not known.
            self._effort.company.peers.failed(each.node, Failure.GONE, self._effort.now)
        return senders[-1].node, sure

    def lied(self, node: str, chunk: int) -> None:
        """Leave a node out for good, and say so."""
        self._effort.company.peers.failed(node, Failure.WRONG, self._effort.now)
        self._name(node, chunk)

    def _name(self, node: str, chunk: int) -> None:
        self._effort.company.counts.liars[node] += 1
        _log.warning(
            "peer lied: node=%s digest=%s chunk=%d", node, self._effort.errand.digest, chunk
        )

    async def compare_with(self, fd: int) -> tuple[str, ...]:
        """Name those whose chunks, or words, the proven blob in this file shows to be wrong.

        For a blob that had failed although its chunks were checked.
        """
        liars: dict[str, None] = {}
        for chunk, record in self._records.items():
            span = self._effort.geometry.span(chunk)
            if record.digest == await asyncio.to_thread(span_digest, fd, *span):
                continue
            sure = [each.node for each in record.senders if each.checked]
            if len(record.senders) > 1:
                sure = []
            for node in {*sure, *([record.voucher] if record.voucher else [])}:
                liars[node] = None
                self.lied(node, chunk)
        return tuple(liars)


async def _next(words: AsyncGenerator[tuple[str, Digest], None]) -> tuple[str, Digest | None]:
    """The next word and whose it is; None when nobody is left to speak."""
    try:
        return await anext(words)
    except StopAsyncIteration:
        return "", None
