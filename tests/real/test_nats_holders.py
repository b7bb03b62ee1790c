"""Who holds a blob, over a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from cache.content import Digest
from registryd.cluster.holders import GROUPS, KEPT, LEAST
from registryd.cluster.nats_cluster import NatsCluster
from registryd.cluster.nats_connection import Message
from registryd.cluster.nats_link import NatsLink
from registryd.cluster.placement import node_seed
from tests.contract.cluster import PROMISED
from tests.fakes.waiting import until
from tests.real.nats import NatsServer, nats_server
from tests.real.nats_nodes import linked, node, nodes

BLOB, OTHER = Digest.of(b"a blob"), Digest.of(b"another")
GIB = 1 << 30
COUNT = 13


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of its own."""
    with nats_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def many(server: NatsServer) -> AsyncIterator[list[NatsCluster]]:
    """Nodes that know one another, of every queue group."""
    async with nodes(COUNT, server.url) as found:
        assert set(range(GROUPS)) == {node_seed(each.me) % GROUPS for each in found[1:]}
        yield found


async def found(asker: NatsCluster, count: int, digest: Digest = BLOB) -> dict[str, bool]:
    """Ask until so many answer: what is told takes a moment to reach the server."""
    holders: tuple[tuple[str, bool], ...] = ()
    async with asyncio.timeout(20):
        while len(holders) != count:
            holders = await asker.holders(digest)
    assert len(dict(holders)) == len(holders)
    return dict(holders)


async def test_one_holder(many: list[NatsCluster]) -> None:
    """Its name, whether it has it whole; nobody is asked in vain for another blob."""
    many[1].holds(BLOB, size=GIB, whole=False)
    partly = await found(many[0], 1)
    many[1].holds(BLOB, size=GIB, whole=True)
    whole = await found(many[0], 1)

    assert ({"n2": False}, {"n2": True}) == (partly, whole)
    assert () == await many[0].holders(OTHER)


async def test_many_holders(many: list[NatsCluster]) -> None:
    """Of many, a few answer, one of each group: and not the same ones each time."""
    for each in many[1:]:
        each.holds(BLOB, size=GIB, whole=True)
    seen = set(await found(many[0], GROUPS))
    for _ in range(40):
        seen |= set(dict(await many[0].holders(BLOB)))

    assert len(seen) > GROUPS
    assert seen <= {each.me for each in many[1:]}


async def test_one_of_each_group_is_asked(server: NatsServer, many: list[NatsCluster]) -> None:
    """However many hold it, a question costs as many answers as there are groups."""
    for each in many:
        each.holds(BLOB, size=GIB, whole=True)
    await found(many[0], GROUPS)
    async with linked(server.url, name="asker") as asker:
        subject = f"{many[0].prefix}.has.sha256-{BLOB.hex}"
        answers = await asker.gather(subject, most=2 * COUNT, within=1.0, after=100)

    assert GROUPS == len(answers)


async def test_what_is_let_go(many: list[NatsCluster]) -> None:
    """A blob that is deleted is told no more, by the one that has deleted it."""
    for each in many[1:3]:
        each.holds(BLOB, size=GIB, whole=True)
    await found(many[0], len({node_seed(each.me) % GROUPS for each in many[1:3]}))
    many[1].lets_go(BLOB)
    async with asyncio.timeout(20):
        while (left := await many[0].holders(BLOB)) != (("n3", True),):
            pass
    many[2].lets_go(BLOB)

    assert {} == await found(many[0], 0)
    assert (("n3", True),) == left


async def test_who_has_left_does_not_answer(server: NatsServer, many: list[NatsCluster]) -> None:
    """A holder that ends is no holder, without anybody having to forget it."""
    async with node("n99", server.url) as last:
        await until(lambda: many[0].find("n99"))
        last.holds(BLOB, size=GIB, whole=True)
        assert {"n99": True} == await found(many[0], 1)

    assert {} == await found(many[0], 0)


async def test_small_blobs_are_not_told(many: list[NatsCluster]) -> None:
    """Below the limit a blob is not worth a subscription; at the limit it is."""
    many[1].holds(OTHER, size=LEAST - 1, whole=True)
    many[1].holds(BLOB, size=LEAST, whole=True)

    assert {"n2": True} == await found(many[0], 1)
    assert () == await many[0].holders(OTHER)


async def test_the_newest_are_told(many: list[NatsCluster]) -> None:
    """Of too many blobs the oldest are told no more; one that is told again is new again."""
    blobs = [Digest.of(b"%d" % number) for number in range(KEPT + 2)]
    for digest in blobs[:KEPT]:
        many[1].holds(digest, size=GIB, whole=True)
    many[1].holds(blobs[0], size=GIB, whole=True)
    for digest in blobs[KEPT:]:
        many[1].holds(digest, size=GIB, whole=True)
    await found(many[0], 1, blobs[-1])
    for digest in (blobs[0], *blobs[3:5], blobs[KEPT]):
        assert {"n2": True} == await found(many[0], 1, digest)
    for digest in blobs[1:3]:
        assert () == await many[0].holders(digest)


async def test_after_the_server_was_away(server: NatsServer, many: list[NatsCluster]) -> None:
    """While it is away nobody is found, at once; then what was told before and meanwhile is."""
    many[1].holds(BLOB, size=GIB, whole=True)
    await found(many[0], 1)
    await asyncio.to_thread(server.kill)
    await until(lambda: not any(each.connected for each in many))
    async with asyncio.timeout(PROMISED):
        away = await many[0].holders(BLOB)
    many[2].holds(OTHER, size=GIB, whole=False)
    await asyncio.to_thread(server.start)
    await until(lambda: all(each.connected for each in many))

    assert () == away
    assert ({"n2": True}, {"n3": False}) == (
        await found(many[0], 1), await found(many[0], 1, OTHER),
    )  # fmt: skip


async def test_answers_that_make_no_sense(server: NatsServer, many: list[NatsCluster]) -> None:
    """An answer that is none, or in the name of no member, is left out."""
    answers = [b"", b"{", b"[]", b'{"name": "n2"}', b'{"name": 5, "whole": true}',
               b'{"name": "nobody", "whole": true}']  # fmt: skip
    async with linked(server.url, name="liar") as liar:
        subject = f"{many[0].prefix}.has.sha256-{BLOB.hex}"

        for words in answers:
            lying = liar.subscribe(subject, partial(_answer, liar, words))
            told = await liar.request(subject, within=20)
            found = await many[0].holders(BLOB)
            lying.end()

            assert told and told.content == words
            assert () == found


def _answer(link: NatsLink, words: bytes, message: Message) -> None:
    link.publish(message.reply, words)


async def test_a_holder_that_does_not_answer(server: NatsServer, many: list[NatsCluster]) -> None:
    """One that listens and says nothing costs no more than the time that is promised."""
    async with linked(server.url, name="mute") as mute:
        asked: list[bytes] = []
        subject = f"{many[0].prefix}.has.sha256-{BLOB.hex}"
        mute.subscribe(subject, lambda message: asked.append(message.content))
        async with asyncio.timeout(PROMISED):
            while not asked:
                found = await many[0].holders(BLOB)

        assert () == found
