"""What one node asks another: chunks, their hashes, manifests; over TLS, both sides shown.

Invariants:
- nothing is sent, and no token above all, before the other side has proven to be the node that is
  meant: the name is checked in the handshake, the cluster and the kind right after it;
- exceptions of the HTTP library, of sockets and of TLS end here as a PeerFault that names the peer;
- no proxy, no cookie, no decompression, and no redirect is followed: where to ask is for the rules;
- a stretch of bytes is the one that was asked for, to its end, or the iteration raises.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from typing_extensions import override
from yarl import URL

from cache.content import Digest
from registryd import __version__
from registryd.cluster.errors import PeerCut, PeerGone, PeerRefused, PeerStalled, PeerWrong
from registryd.cluster.peer_failures import FOREIGN, explain
from registryd.cluster.peer_tls import PeerTls
from registryd.cluster.peer_words import digest_of, number_of, seconds_of
from registryd.cluster_ports import ClusterNode
from registryd.hostlist import split_port
from registryd.oci.errors import BadAnswer, UsageError
from registryd.oci.ranges import ContentRange, format_range
from registryd.oci.reference import Reference
from registryd.secrets import Secret
from registryd.trickle import Trickle

#: As for registries: less costs throughput by wake-ups, more by cache misses.
READ_BUFFER: Final = 2**20
#: Given up long before the other side does (60 s), so that no request is sent into an end; and
#: soon, for one that has carried chunks holds on to 0.6 MiB (measured), and nodes are many.
KEEP_ALIVE: Final = 10.0
#: Addresses of nodes change seldom, and a resolver with a thousand nodes has enough to do (s).
NAMES_KEPT: Final = 60
#: A refusal's words, and the answer that holds a chunk's hash: a few hundred bytes.
WORDS_LIMIT: Final = 16 * 2**10
#: Distribution specification 1.1, "Pushing Manifests": what registries are expected to take.
MANIFEST_LIMIT: Final = 4 * 2**20
#: Tokens of some registries have 6 KB; nothing that peers answer comes near it.
HEADER_LIMIT: Final = 16 * 2**10
#: A body without a byte for so long is given up; a fetch leaves a source long before (seconds).
STALL: Final = 30.0


@dataclass(frozen=True, slots=True)
class ChunkAsk:
    """A stretch ``start`` to ``stop`` of one chunk of a blob of ``size``, and who asks how.

    ``repository`` begins with the registry. ``free`` are upload slots of ours, ``hops`` the
    redirects that led here, ``barred`` for how long (seconds) we cannot reach the registry;
    ``made``: a node made it, and no registry has it.
    """

    repository: str
    digest: Digest
    start: int
    stop: int
    size: int
    hops: int = 0
    free: int = 0
    owed: bool = False
    relay: bool = False
    token: Secret | None = None
    barred: float | None = None
    made: bool = False

    def headers(self) -> dict[str, str]:
        """What the request says."""
        said = {
            "Range": format_range(self.start, self.stop),
            "Registryd-Size": str(self.size),
            "Registryd-Hops": str(self.hops),
            "Registryd-Free": str(self.free),
        }
        if self.owed:
            said["Registryd-Owed"] = "1"
        if self.relay:
            said["Registryd-Relay"] = "1"
        if self.made:
            said["Registryd-Made"] = "1"
        if self.barred is not None:
            said["Registryd-Barred"] = f"{max(self.barred, 0.0):.3f}"
        return said | lent(self.token)


class ChunkAnswer:
    """What a peer answers; its bytes come by iterating, once, and only where ``status`` is 206.

    ``here`` are the bytes of the chunk, from its start, that the sender had; ``checked`` says that
    it has the whole chunk and has proven it; ``to`` is whom a 307 names. Owned by ``chunk``.
    """

    __slots__ = (
        "_ask", "_peer", "_response", "_stall",
        "barred", "checked", "chunk_digest", "here", "retry_after", "start", "status", "to",
        "total",
    )  # fmt: skip

    def __init__(
        self, response: aiohttp.ClientResponse, ask: ChunkAsk, peer: str, stall: float
    ) -> None:
        self._response, self._ask, self._peer, self._stall = response, ask, peer, stall
        headers = response.headers
        self.status: int = response.status
        self.here = number_of(headers, "Registryd-Here", peer)
        self.checked = headers.get("Registryd-Checked") == "1"
        self.chunk_digest = digest_of(headers.get("Registryd-Chunk"), peer)
        self.to = headers.get("Registryd-To") or None
        self.barred = seconds_of(headers.get("Registryd-Barred"))
        self.retry_after = seconds_of(headers.get("Retry-After"))
        self.start, self.total = ask.start, ask.size
        if self.status == 206:
            self._check_range(headers.get("Content-Range", ""))
        elif 200 <= self.status < 300:
            raise PeerWrong(f"peer {peer}: it answered {self.status}, not with a stretch of bytes")

    def _check_range(self, said: str) -> None:
        ask = self._ask
        try:
            sent = ContentRange.parse(said)
        except BadAnswer as error:
            raise PeerWrong(f"peer {self._peer}: {error}") from error
        if (sent.start, sent.stop) != (ask.start, ask.stop) or sent.total not in (None, ask.size):
            asked = ContentRange(ask.start, ask.stop, ask.size)
            raise PeerWrong(f"peer {self._peer}: it sends {sent}, asked for {asked}")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes in their order, in pieces of at most 1 MiB.

        Raises PeerCut, PeerStalled, PeerWrong.
        """
        if self.status != 206:
            return
        left = self._ask.stop - self._ask.start
        content, trickle = self._response.content, Trickle(asyncio.get_running_loop().time)
        while True:
            try:
                async with asyncio.timeout(self._stall):
                    piece = await content.read(READ_BUFFER)
            except TimeoutError as error:
                words = f"peer {self._peer}: it stalled, no byte for {self._stall:g} s"
                raise PeerStalled(words) from error
            except FOREIGN as error:
                words = f"peer {self._peer}: it broke off with {left} bytes to come"
                raise PeerCut(words) from error
            if not piece:
                break
            left -= len(piece)
            if left < 0:
                raise PeerWrong(f"peer {self._peer}: it sends more than it announced")
            yield piece
            if left and (seconds := trickle.pause(len(piece))):
                await self._gather(seconds)
        if left:
            raise PeerCut(f"peer {self._peer}: it ended with {left} bytes to come")

    async def _gather(self, seconds: float) -> None:
        """Let bytes gather in the kernel: taken one by one they cost more than they are."""
        connection = self._response.connection
        protocol = None if connection is None else connection.protocol
        if protocol is None or not protocol.connected:
            return  # all of it is here, or nothing more comes
        protocol.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if protocol.connected:
                protocol.resume_reading()


class PeerClient:
    """The connections to all other nodes; ``me`` is what this one is called among them."""

    def __init__(
        self, session: aiohttp.ClientSession, tls: PeerTls, me: str, *, answer: float, stall: float
    ) -> None:
        self._session = session
        self._tls = tls
        self._me = me
        self._answer = answer
        self._stall = stall

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        tls: PeerTls,
        me: str,
        *,
        connect: float = 8.0,
        answer: float = 30.0,
        stall: float = STALL,
    ) -> AsyncIterator[PeerClient]:
        """A client, whose connections end with the context.

        In seconds: ``connect`` for a connection, ``answer`` for an answer's head (who is in a
        queue waits for it), ``stall`` for the next byte of its body.
        """
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,
                keepalive_timeout=KEEP_ALIVE,
                ttl_dns_cache=NAMES_KEPT,
                ssl=tls.client,
                socket_factory=_sock,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"registryd/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_read=answer),
        )
        async with session:
            client = cls(session, tls, me, answer=answer, stall=stall)
            client.renew(tls)
            yield client

    def renew(self, tls: PeerTls) -> None:
        """Show these certificates from now on; connections that are open go on."""
        self._tls = tls
        connector = self._session.connector
        assert isinstance(connector, _Connector)  # noqa: S101 (made above)
        connector.identity = tls

    @asynccontextmanager
    async def chunk(self, node: ClusterNode, ask: ChunkAsk) -> AsyncIterator[ChunkAnswer]:
        """What a node answers to this; what is not read of it is given up on leaving.

        Raises PeerGone, PeerStalled, PeerWrong.
        """
        path = f"/v2/{ask.repository}/blobs/{ask.digest}"
        async with self._get(node, path, ask.headers()) as response:
            answer = ChunkAnswer(response, ask, node.name, self._stall)
            if answer.status != 206:
                await self._body(node, response, WORDS_LIMIT)  # so that the connection is of use
            yield answer

    async def chunk_digest(
        self, node: ClusterNode, repository: str, digest: Digest, chunk: int
    ) -> Digest | None:
        """The hash of a chunk that a node has checked; None when it has not.

        Raises PeerGone, PeerCut, PeerStalled, PeerWrong.
        """
        path = f"/peer/v1/chunks/{digest}/{chunk}?repository={repository}"
        async with self._get(node, path, {}) as response:
            body = await self._body(node, response, WORDS_LIMIT)
            if response.status != 200:
                return None
        try:
            said = json.loads(body)["digest"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PeerWrong(f"peer {node.name}: it answered what is no chunk's hash") from error
        return digest_of(said, node.name)

    async def manifest(
        self, node: ClusterNode, exact: Reference, token: Secret | None
    ) -> tuple[bytes, str] | None:
        """A manifest by its digest, proven against it, with its media type; None: not from there.

        Raises PeerGone, PeerCut, PeerStalled, PeerWrong.
        """
        wanted = exact.digest
        assert wanted is not None  # noqa: S101 (a tag is asked of its registry alone)
        path = f"/v2/{exact.registry}/{exact.repository}/manifests/{wanted}"
        async with self._get(node, path, lent(token)) as response:
            content = await self._body(node, response, MANIFEST_LIMIT)
            if response.status != 200:
                return None
            kind = response.headers.get("Content-Type", "")
        if Digest.of(content, wanted.algorithm) != wanted:
            raise PeerWrong(f"peer {node.name}: what it sent is not {wanted}")
        return content, kind

    def _get(
        self, node: ClusterNode, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.ask("GET", node, path, headers)

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        node: ClusterNode,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A node's answer, whatever it is. Raises PeerGone, PeerStalled."""
        try:
            response = await self._session.request(
                method,
                URL(node.url + path, encoded=True),
                data=body,
                headers={**headers, "Registryd-Node": self._me},
                allow_redirects=False,
                ssl=self._tls.client,
                server_hostname=_host(node),
            )
        except PeerRefused as error:
            raise PeerGone(str(error)) from error
        except FOREIGN as error:
            raise explain(error, node.name, self._answer) from error
        try:
            yield response
        finally:
            response.release()

    async def _body(self, node: ClusterNode, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole of a body that has a limit."""
        body = b""
        try:
            async with asyncio.timeout(self._answer):
                while len(body) <= limit and (piece := await response.content.read(READ_BUFFER)):
                    body += piece
        except TimeoutError as error:
            raise PeerStalled(f"peer {node.name}: it stalled in a short answer") from error
        except FOREIGN as error:
            raise PeerCut(f"peer {node.name}: it broke off in a short answer") from error
        if len(body) > limit:
            raise PeerWrong(f"peer {node.name}: it answered with more than {limit} bytes")
        return body


def _sock(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices within seconds when its peer's kernel is gone, while we wait for it."""
    sock = socket.socket(*address[:3])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 4), (socket.TCP_KEEPINTVL, 2),
                          (socket.TCP_KEEPCNT, 2), (socket.TCP_USER_TIMEOUT, 8000)):  # fmt: skip
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


class _Connector(aiohttp.TCPConnector):
    """Connections to members alone: the handshake proves the name, and this what it is of."""

    identity: PeerTls

    @override
    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.client_proto.ResponseHandler:
        protocol = await super()._create_connection(req, traces, timeout)
        name = req.server_hostname or ""
        tls: ssl.SSLObject | None = None
        if protocol.transport is not None:
            tls = protocol.transport.get_extra_info("ssl_object")
        try:
            self.identity.check(tls, peer=name, name=name)
        except PeerRefused:
            protocol.abort()
            raise
        return protocol


def _host(node: ClusterNode) -> str:
    """The name that a node has to prove: its own, without the port. Raises PeerGone."""
    try:
        return split_port(node.name)[0]
    except UsageError as error:
        raise PeerGone(f"peer {node.name[:260]!a}: {error}") from error


def lent(token: Secret | None) -> dict[str, str]:
    """The header that lends another node our token for a registry."""
    return {"Registryd-Upstream": f"Bearer {token.reveal()}"} if token else {}
