"""Answers of other nodes that come as lines, over a long time.

Invariant: a node has to say something within the client's time for answers, be it an empty line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from registryd.cluster.errors import PeerCut, PeerWrong
from registryd.cluster.peer_client import PeerClient, lent
from registryd.cluster.peer_failures import FOREIGN
from registryd.cluster_ports import ClusterNode
from registryd.secrets import Secret

#: Bytes of a refusal that an error line shows.
WORDS_LIMIT: Final = 300


class PeerLines:
    """Asks for lines, by a client."""

    def __init__(self, client: PeerClient) -> None:
        self._client = client

    @asynccontextmanager
    async def lines(
        self, node: ClusterNode, path: str, body: bytes, token: Secret | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """POST this to a node; the lines of its answer as they come. ``token`` is lent to it.

        Raises PeerGone, PeerStalled, PeerWrong; the lines raise PeerCut.
        """
        async with self._client.ask("POST", node, path, lent(token), body) as response:
            if response.status != 200:
                said = ascii(await _words(response))
                raise PeerWrong(f"peer {node.name}: it answered {response.status}: {said}")
            yield _lines(node, response)


async def _words(response: aiohttp.ClientResponse) -> str:
    """The beginning of a refusal."""
    try:
        raw = await response.content.read(WORDS_LIMIT)
    except FOREIGN:
        return ""
    return " ".join(raw.decode(errors="replace").split())


async def _lines(node: ClusterNode, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await response.content.readline()
        except (*FOREIGN, ValueError) as error:  # ValueError: a line without an end
            raise PeerCut(f"peer {node.name}: it broke off in the middle") from error
        if not line:
            return
        yield line
