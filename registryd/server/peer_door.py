"""The door for other nodes: members of the cluster come in by it, and nobody else.

Invariants:
- no route of this application is reached but by a request whose connection has shown a member's
  certificate, and whose ``Registryd-Node`` names a node of the cluster that this certificate is of;
- what serves people and runtimes is not here: this application has the peers' routes alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from aiohttp import web

from registryd.cluster.errors import PeerRefused, PeerUnknown
from registryd.cluster.identity import Member
from registryd.cluster.peer_tls import PeerTls
from registryd.cluster_ports import Cluster, ClusterNode
from registryd.hostlist import split_port
from registryd.oci.errors import UsageError
from registryd.server.account import account_of
from registryd.server.app import ROUTINE, observe
from registryd.server.context import CONTEXT, Context

#: By this header a node says which of the cluster's it is.
NODE = "Registryd-Node"
#: Chunks are given, refused, and left by who has them from elsewhere, thousands of times a blob.
EVERYDAY = frozenset({200, 206, 307, 404, 499, 503})

_ASKER: web.RequestKey[ClusterNode] = web.RequestKey("asker", ClusterNode)
_KEEPER: web.AppKey[_Keeper]

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Keeper:
    """Who may come in: remembers what each connection has proven."""

    def __init__(self, tls: PeerTls, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._tls = tls
        self._cluster = cluster
        self._now = now
        self._shown: WeakKeyDictionary[object, Member] = WeakKeyDictionary()

    def asker(self, request: web.Request) -> ClusterNode:
        """The node that asks. Raises PeerRefused, PeerUnknown."""
        member = self._member(request)
        name = request.headers.get(NODE, "")
        try:
            host = split_port(name)[0]
        except UsageError:
            raise PeerRefused(f"peer {member.name}: its {NODE} is no node's name") from None
        if not member.answers_to(host):
            raise PeerRefused(f"peer {member.name}: it is not {name[:260]}")
        node = self._cluster.find(name)
        if node is None:
            words = f"peer {name}: this node does not know it"
            if self._cluster.kind == "static":
                raise PeerRefused(f"{words} (is cluster.peers the same text on both?)")
            raise PeerUnknown(f"{words} yet")
        return node

    def _member(self, request: web.Request) -> Member:
        """Whose certificate the connection has shown: looked at once, and until it ends."""
        connection = request.protocol
        member = self._shown.get(connection)
        if member is None:
            transport = request.transport
            shown = None if transport is None else transport.get_extra_info("ssl_object")
            member = self._tls.check(shown, peer=request.remote or "that has left")
            self._shown[connection] = member
        if self._now() >= member.until:
            raise PeerRefused(f"peer {member.name}: its certificate has ended")
        return member


_KEEPER = web.AppKey("keeper", _Keeper)


def make_peers_app(
    context: Context,
    tls: PeerTls,
    cluster: Cluster,
    add_routes: Callable[[web.Application], None],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> web.Application:
    """The application of the peers' listener, with these routes."""
    app = web.Application(middlewares=[observe, _members_only])
    app[CONTEXT] = context
    app[ROUTINE] = EVERYDAY
    app[_KEEPER] = _Keeper(tls, cluster, now)
    add_routes(app)
    return app


def member_of(request: web.Request) -> ClusterNode:
    """The node that asks, proven by its certificate."""
    return request[_ASKER]


@web.middleware
async def _members_only(request: web.Request, handler: Next) -> web.StreamResponse:
    node = request[_ASKER] = request.app[_KEEPER].asker(request)
    account_of(request).user = f"node:{node.name}"
    return await handler(request)
