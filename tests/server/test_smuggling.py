"""Requests whose end two readers could see in different places: refused, and nothing after them.

Each shape carries a second request in what may be a body. It would delete a tag: if the tag is
there afterwards, nobody has read it as a request. RFC 9112, 6.3 and 11.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.content import Digest
from registryd.server.connections import LONGEST_LINE, Limits
from tests.fakes.node import RunningNode, running_node
from tests.fakes.registry import make_image
from tests.server.raw import Reply, check, exchange

HIDDEN = b"DELETE /v2/localhost/team/app/manifests/1 HTTP/1.1\r\nHost: node\r\n\r\n"
CONFIG = b'{"os":"linux","architecture":"amd64"}'
PUT = b"PUT /v2/localhost/team/app/manifests/2 HTTP/1.1\r\nHost: node\r\n"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    """A node whose own registry has an image."""
    async with running_node(tmp_path, limits=Limits(idle=0.3, body=0.3)) as running:
        async with running.owner() as client:
            for content in (CONFIG, b"layer"):
                async with client.post("/v2/localhost/team/app/blobs/uploads/") as answer:
                    place = answer.headers["Location"]
                digest = str(Digest.of(content))
                async with client.put(f"{place}?digest={digest}", data=content) as answer:
                    assert answer.status == 201
            async with client.put(
                "/v2/localhost/team/app/manifests/1",
                data=make_image(b"layer", config=CONFIG),
                headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
            ) as answer:
                assert answer.status == 201
        yield running


async def tag_is_there(node: RunningNode) -> bool:
    """Whether the hidden request has not been executed."""
    async with node.owner() as client, client.head("/v2/localhost/team/app/manifests/1") as answer:
        return answer.status == 200


async def replies_to(node: RunningNode, sent: bytes, count: int = 3) -> list[Reply]:
    """All answers until the connection ends or nothing more comes."""
    replies = await exchange(node.socket, sent, ["GET"] * count)
    for reply in replies:
        check(reply, "GET")
    return replies


REFUSED = {
    "both lengths": PUT
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "both, the other order": PUT
    + b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n" % (5 + len(HIDDEN))
    + HIDDEN,
    "two lengths": PUT + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "two lengths alike": PUT + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a list of lengths": PUT + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "a signed length": PUT + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a negative length": PUT + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "a hexadecimal length": PUT + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "an endless length": PUT + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + HIDDEN,
    "another coding": PUT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked twice": PUT + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked not last": PUT + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two codings": PUT
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "a blank before the colon": PUT + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a vertical tab": PUT + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a NUL in a value": PUT + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a NUL in a name": PUT + b"X\x00: b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a bare CR": PUT + b"X: a\rContent-Length: 7\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a folded line": PUT + b"X: a\r\n Content-Length: 7\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a folded first line": PUT + b" X: a\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "no colon": PUT + b"Content-Length\r\n\r\n" + HIDDEN,
    "two hosts": PUT + b"Host: other\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "no host": b"PUT /v2/localhost/team/app/manifests/2 HTTP/1.1\r\n\r\n" + HIDDEN,
    "bare line feeds": PUT.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + HIDDEN,
    "an endless line": PUT + b"X: " + b"a" * (2 * LONGEST_LINE) + b"\r\n\r\n" + HIDDEN,
}  # fmt: skip


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
async def test_what_can_be_read_in_two_ways(node: RunningNode, sent: bytes) -> None:
    """It is refused, the connection ends, and nothing that came after it is executed."""
    replies = await replies_to(node, sent)

    assert [(True, "close")] == [
        (reply.status in (400, 431), reply.headers.get("connection")) for reply in replies
    ]
    assert await tag_is_there(node)


@pytest.mark.parametrize("version", [b"2.0", b"0.9"])
async def test_other_versions(node: RunningNode, version: bytes) -> None:
    """They are refused in HTTP/1.1, and the connection ends (RFC 9110, 15.6.6)."""
    replies = await replies_to(node, b"GET /healthz HTTP/" + version + b"\r\nHost: n\r\n\r\n")

    assert [505] == [reply.status for reply in replies]
    assert await tag_is_there(node)


CHUNKS = {
    "a size that is none": b"zz\r\n" + HIDDEN,
    "a negative size": b"-1\r\n" + HIDDEN,
    "a size with a sign": b"+0\r\n\r\n" + HIDDEN,
    "a size of 0x": b"0x0\r\n\r\n" + HIDDEN,
    "an endless size": b"f" * 40 + b"\r\n" + HIDDEN,
    "a blank in a size": b"0 0\r\n\r\n" + HIDDEN,
    "no end of a chunk": b"1\r\naa\r\n0\r\n\r\n" + HIDDEN,
    "bare line feeds": b"0\n\n" + HIDDEN,
    "a CR in an extension": b"0;a\rb\r\n\r\n" + HIDDEN,
    "a NUL in an extension": b"0;a\x00\r\n\r\n" + HIDDEN,
    "a broken trailer": b"0\r\nX\x00: y\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_broken_chunks(node: RunningNode, chunks: bytes) -> None:
    """A body that cannot be read ends the connection; what follows is no request."""
    replies = await replies_to(node, PUT + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

    assert len(replies) <= 1 and all(400 <= reply.status < 500 for reply in replies)
    assert await tag_is_there(node)


async def test_a_refused_first_does_not_change_the_second(node: RunningNode) -> None:
    """Pipelined: after a proper refusal the body of the first is never read as a request."""
    body = HIDDEN * 3
    refused = b"POST /api/v1/nothing HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n" % len(body)
    second = b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"
    replies = await replies_to(node, refused + body + second, 2)

    assert [404, 200] == [reply.status for reply in replies]
    assert b"ok\n" == replies[-1].body
    assert await tag_is_there(node)


async def test_an_upgrade_is_not_made(node: RunningNode) -> None:
    """What follows an offer to speak another protocol is what it is in HTTP, or not read."""
    offer = b"GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    replies = await replies_to(node, offer + b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n", 2)

    assert [(200, b"ok\n")] * len(replies) == [(reply.status, reply.body) for reply in replies]
    assert replies


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        (b"GET http://other.example/healthz", {200}),
        (b"GET http://user:pw@other.example:99/v2/", {200}),
        (b"GET //other.example/healthz", {404}),
        (b"CONNECT other.example:443", {400, 404, 405}),
        (b"CONNECT http://other.example/healthz", {400, 404, 405}),
        (b"GET other.example:443", {400, 404}),
        (b"OPTIONS *", {400, 404, 405}),
        (b"GET *", {400, 404}),
        (b"GET http://[::1/healthz", {400}),
        (b"GET http://other.example:port/healthz", {400}),
    ],
)
async def test_targets_that_name_a_host(
    node: RunningNode, target: bytes, statuses: set[int]
) -> None:
    """A host in the request's target changes nothing: it is this daemon that answers."""
    replies = await replies_to(node, target + b" HTTP/1.1\r\nHost: node\r\n\r\n", 1)

    assert statuses >= {reply.status for reply in replies}
    assert 1 == len(replies)


async def test_a_great_many_at_once(node: RunningNode) -> None:
    """Thousands of pipelined requests are answered in turn, and each once."""
    count = 2000
    sent = b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n" * count
    async with asyncio.timeout(60):
        replies = await exchange(node.socket, sent, ["GET"] * count)

    assert [200] * count == [reply.status for reply in replies]
