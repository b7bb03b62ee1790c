"""A cluster whose members are a list, the same on every node: nothing runs beside the daemons.

Invariants:
- everyone on the list is a member for as long as the daemon runs; who does not answer is passed
  over by those who ask, and stays a member;
- a node's name is its entry, in lower case and with its port, so that all nodes mean the same one;
- this node is the one entry whose host its certificate is for and whose port it listens on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from cache.content import Digest
from registryd.cluster.identity import Member
from registryd.cluster.members import Facts, Joined, Left, Members
from registryd.cluster_config import PORT, ClusterConfig
from registryd.cluster_ports import ClusterNode
from registryd.hostlist import expand, split_port
from registryd.oci.errors import ConfigInvalid

#: Hosts of this node that a line names; a certificate may be for dozens.
_NAMED: Final = 4


class StaticCluster:
    """The Cluster of a list."""

    kind: Final = "static"
    #: No news is expected.
    connected: Final = True

    def __init__(
        self, me: str, zones: Mapping[str, str], facts: Callable[[], Facts] = Facts
    ) -> None:
        """``zones`` has the zone of every member ("": none is told), ``me`` among them."""
        self.me: Final = me
        self._facts = facts
        self._members = Members(me)
        for name, zone in zones.items():
            self._members.put(ClusterNode(name, f"https://{name}", zone))

    @classmethod
    def of(cls, config: ClusterConfig, member: Member, facts: Callable[[], Facts]) -> StaticCluster:
        """The cluster that ``peers`` and ``zones`` mean, as the node of this certificate sees it.

        Raises ConfigInvalid where this node is not on the list, or twice, or in two zones.
        """
        names = tuple(dict.fromkeys(map(_full, _expanded(config.peers))))
        me = _me(names, member, split_port(config.listen)[1])
        zones = _zones(config, names)
        if config.zone not in ("", zones[me]):
            raise ConfigInvalid(
                f"cluster.zone: with peers, zones says where a node is, and it has {me} in"
                f" {zones[me] or 'no zone'}, not in {config.zone} (leave zone away)"
            )
        return cls(me, zones, facts)

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Everyone on the list; of this node with what it knows of itself."""
        return tuple(
            self._mine(node) if node.name == self.me else node for node in self._members.all()
        )

    def _mine(self, node: ClusterNode) -> ClusterNode:
        facts = self._facts()
        return replace(node, version=facts.version, load=facts.load, free=facts.free, heard=0.0)

    def find(self, name: str) -> ClusterNode | None:
        """A member by its name."""
        return self._members.find(name)

    def watch(self, joined: Joined, left: Left) -> None:
        """Tell of everyone but this node, at once; nobody joins or leaves."""
        self._members.watch(joined, left)

    def holds(self, digest: Digest, *, size: int, whole: bool) -> None:
        """Nobody can be told."""

    def lets_go(self, digest: Digest) -> None:
        """Nobody was told."""

    async def holders(self, digest: Digest) -> tuple[tuple[str, bool], ...]:
        """Nobody can be asked."""
        return ()


def _expanded(lists: Iterable[str]) -> Iterable[str]:
    return (name for words in lists for name in expand(words))


def _full(entry: str) -> str:
    """An entry as all nodes mean it: in lower case, with its port."""
    port = split_port(entry)[1]
    return entry.lower() if port is not None else f"{entry.lower()}:{PORT}"


def _me(names: Iterable[str], member: Member, port: int | None) -> str:
    found = []
    for name in names:
        host, its = split_port(name)
        if its == port and member.answers_to(host):
            found.append(name)
    if len(found) == 1:
        return found[0]
    more = "..." if len(member.hosts) > _NAMED else ""
    who = f"its certificate is for {', '.join(member.hosts[:_NAMED])}{more}; its port is {port}"
    if found:
        raise ConfigInvalid(
            f"cluster.peers: {' and '.join(found[:_NAMED])} are all this node ({who}):"
            " name each node once"
        )
    raise ConfigInvalid(
        f"cluster.peers: this node is not among them ({who}): add it, the same on every node"
    )


def _zones(config: ClusterConfig, names: Iterable[str]) -> dict[str, str]:
    """The zone of each member."""
    found = dict.fromkeys(names, "")
    for zone, words in config.zones.items():
        for name in map(_full, expand(words)):
            where = f'cluster.zones."{zone}": {name}'
            if name not in found:
                raise ConfigInvalid(f"{where} is not among peers (write it as it is there)")
            if found[name] not in ("", zone):
                raise ConfigInvalid(f"{where} is in the zone {found[name]} too")
            found[name] = zone
    return found
