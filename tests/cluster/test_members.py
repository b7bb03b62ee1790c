"""The table of members: its order, and who is told of what changes in it."""

from __future__ import annotations

from registryd.cluster.members import Members
from registryd.cluster_ports import ClusterNode
from tests.contract.cluster import Watcher


def node(name: str, zone: str = "") -> ClusterNode:
    """A member."""
    return ClusterNode(name, f"https://{name}:1", zone)


def members(*names: str) -> Members:
    """A table in which n1 is this node."""
    table = Members("n1")
    for name in names:
        table.put(node(name))
    return table


def test_names_are_ordered_as_people_count() -> None:
    """n2 comes before n10, also after somebody has joined and left."""
    table = members("n10", "n2", "n1")
    before = [each.name for each in table.all()]
    table.put(node("n3"))
    table.remove("n10")

    assert ["n1", "n2", "n10"] == before
    assert ["n1", "n2", "n3"] == [each.name for each in table.all()]


def test_each_change_is_told_once() -> None:
    """A join and a leave are told once each, what is new of a member is not a join."""
    table, watcher = members("n1", "n2"), Watcher()
    table.watch(watcher.joined, watcher.left)
    table.put(node("n3"))
    table.put(node("n3", zone="r1"))
    table.remove("n3")
    table.remove("n3")

    assert [("joined", "n2"), ("joined", "n3"), ("left", "n3")] == watcher.told


def test_what_is_new_is_found() -> None:
    """The last word of a member is what counts."""
    table = members("n2")
    table.put(node("n2", zone="r1"))

    assert node("n2", zone="r1") == table.find("n2")
    assert (node("n2", zone="r1"),) == table.all()


def test_this_node_is_never_told_of() -> None:
    """That it is here itself is no news to a watcher."""
    table, watcher = members(), Watcher()
    table.watch(watcher.joined, watcher.left)
    table.put(node("n1"))
    table.remove("n1")

    assert [] == watcher.told


def test_a_watcher_sees_what_it_is_told() -> None:
    """When a join is told the member is there, when a leave is told it is not."""
    table, seen = members("n1"), list[bool]()
    table.watch(
        lambda node: seen.append(node.name in table), lambda name: seen.append(name in table)
    )
    table.put(node("n2"))
    table.remove("n2")

    assert [True, False] == seen
