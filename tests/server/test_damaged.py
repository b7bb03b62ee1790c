"""A blob that is found to be damaged while somebody is being sent it."""

from __future__ import annotations

import asyncio

from cache.content import Descriptor
from tests.fakes.node import RunningNode

#: More than the buffers between a server and its client hold.
SIZE = 32 << 20


async def test_who_is_being_sent_a_damaged_blob_is_cut_off(node: RunningNode) -> None:
    """The connection ends before the last byte, and the next one is told that there is no such
    blob: it is not given again."""
    store, content = node.node.store, bytes(SIZE)
    blob = Descriptor.of("application/x", content)
    await store.put(content, blob, repository="localhost/app")
    ask = f"GET /v2/localhost/app/blobs/{blob.digest} HTTP/1.1\r\nHost: node\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=4096)
    writer.write(ask)
    head = await reader.readuntil(b"\r\n\r\n")
    held = store.find(blob.digest)
    assert held is not None
    await asyncio.to_thread(held.path.chmod, 0o644)
    await asyncio.to_thread(spoil, str(held.path))
    bad = await store.scrub.prove(blob.digest, lambda at, size: None)
    came = 0
    try:
        while piece := await reader.read(1 << 20):
            came += len(piece)
    except ConnectionError:
        pass
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(ask)
    again = await reader.readline()
    writer.close()

    assert b"200" in head.split(b"\r\n")[0]
    assert bad
    assert 0 < came < SIZE
    assert b"404" in again


def spoil(path: str) -> None:
    """Change the last byte of a file."""
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
