"""No cluster, and a cluster that is a list: who this node is, and what is wrong with a list."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registryd.cluster.alone import Alone
from registryd.cluster.identity import Member
from registryd.cluster.members import Facts
from registryd.cluster.opening import open_cluster
from registryd.cluster.static import StaticCluster
from registryd.cluster_config import ClusterConfig
from registryd.oci.errors import ConfigInvalid
from tests.contract.cluster import ClusterContract

FACTS = Facts(3, 1 << 40, "9.9")


def member(*hosts: str) -> Member:
    """A node whose certificate is for these."""
    return Member("hpc", hosts[0], hosts, datetime.now(UTC), datetime.now(UTC))


def config(*peers: str, **more: Any) -> ClusterConfig:
    """A cluster of this list."""
    file = Path("/nowhere")
    return ClusterConfig(peers=peers, ca_file=file, cert=file, key=file, **more)


def cluster(*peers: str, hosts: tuple[str, ...] = ("n2",), **more: Any) -> StaticCluster:
    """The cluster of a list, as n2 sees it."""
    return StaticCluster.of(config(*peers, **more), member(*hosts), lambda: FACTS)


class TestAlone(ClusterContract):
    """A node without a cluster."""

    kind = "none"

    @pytest.fixture
    def cluster(self) -> Alone:
        """No cluster."""
        return Alone()


class TestStatic(ClusterContract):
    """A list."""

    kind = "static"

    @pytest.fixture
    def cluster(self) -> StaticCluster:
        """Of twelve."""
        return cluster("n[1-12]")


def test_names_are_the_same_on_every_node() -> None:
    """Lower case, with the port, each once: what nodes call one another must not differ."""
    mine = cluster("N[1-2]", "n1:5051,n3:6000")
    theirs = cluster("N[1-2]", "n1:5051,n3:6000", hosts=("n1",))

    assert ["n1:5051", "n2:5051", "n3:6000"] == [node.name for node in mine.nodes()]
    assert ("n2:5051", "n1:5051") == (mine.me, theirs.me)
    assert [node.name for node in mine.nodes()] == [node.name for node in theirs.nodes()]


@pytest.mark.parametrize(
    ("peers", "hosts", "listen", "me"),
    [
        ("n1.example,n2.example", ("n2", "n2.example"), "0.0.0.0:5051", "n2.example:5051"),
        ("10.0.0.[1-3]", ("n2", "10.0.0.2"), "0.0.0.0:5051", "10.0.0.2:5051"),
        ("[fd00::1],[fd00::2]", ("n2", "fd00::2"), "[::]:5051", "[fd00::2]:5051"),
        ("127.0.0.1:7001,127.0.0.1:7002", ("n2", "127.0.0.1"), "127.0.0.1:7002", "127.0.0.1:7002"),
    ],
)
def test_which_one_is_this_node(peers: str, hosts: tuple[str, ...], listen: str, me: str) -> None:
    """The entry whose host the certificate is for, and whose port is listened on."""
    found = cluster(peers, hosts=hosts, listen=listen)
    node = found.find(me)

    assert me == found.me
    assert node is not None
    assert f"https://{me}" == node.url


@pytest.mark.parametrize(
    ("peers", "hosts", "more", "said"),
    [
        ("n[3-9]", ("n2", "10.0.0.2"), {}, "not among them (its certificate is for n2, 10.0.0.2"),
        ("n[3-9]", ("n2",), {"listen": "[::]:99"}, "its port is 99): add it"),
        ("n2:6000", ("n2",), {}, "this node is not among them"),
        ("n2,10.0.0.2", ("n2", "10.0.0.2"), {}, "n2:5051 and 10.0.0.2:5051 are all this node"),
        ("n[1-2]", ("n2",), {"zones": {"r1": "n3"}}, 'zones."r1": n3:5051 is not among peers'),
        ("n[1-2]", ("n2",), {"zones": {"r1": "n1", "r2": "n[1-2]"}}, "n1:5051 is in the zone r1"),
        ("n[1-2]", ("n2",), {"zones": {"r1": "n2"}, "zone": "r2"}, "has n2:5051 in r1, not in r2"),
        ("n[1-2]", ("n2",), {"zone": "r2"}, "has n2:5051 in no zone, not in r2"),
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense(
    peers: str, hosts: tuple[str, ...], more: dict[str, Any], said: str
) -> None:
    """It is refused, and the line says what is wrong with it."""
    with pytest.raises(ConfigInvalid) as refused:
        cluster(peers, hosts=hosts, **more)

    assert said in str(refused.value)


def test_zones() -> None:
    """Every node knows the zone of each; entries without a port are those of the usual one."""
    found = cluster("n[1-3]", zones={"r1": "n1:5051", "r2": "N[2-2]"}, zone="r2")

    assert ["r1", "r2", ""] == [node.zone for node in found.nodes()]


def test_what_is_not_heard_is_not_known() -> None:
    """Of the others there is a name, a URL and a zone, and no more."""
    other = cluster("n[1-2]").nodes()[0]

    assert ("n1:5051", "", None, None, None) == (
        other.name, other.version, other.load, other.free, other.heard
    )  # fmt: skip


async def test_opened_by_a_configuration() -> None:
    """Without peers and nats there is no cluster; with peers it is the list."""
    async with open_cluster(ClusterConfig(), None) as none:
        assert "none" == none.kind
    async with open_cluster(config("n[1-3]"), member("n3"), lambda: FACTS) as three:
        assert ("static", "n3:5051", 3) == (three.kind, three.me, len(three.nodes()))
