"""What the events of a job come to: how far all nodes are, and which are the slowest (pure).

Unknown events and keys change nothing: a newer daemon may send them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registryd.cli import wording

#: Nodes that a person is shown: more than a few say nothing more.
SHOWN = 5
SETTLED = frozenset({"done", "failed", "cancelled"})


@dataclass(slots=True)
class ClusterTally:
    """The nodes of one job, by name, each as its last event said; and all of them together."""

    job: str = ""
    nodes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    whole: Mapping[str, Any] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Note an event; the node whose state it changed, or None."""
        kind = event.get("event")
        if kind == "job":
            self.job = str(event.get("id") or "")
        elif kind == "cluster":
            self.whole = event
        elif kind == "node" and event.get("node"):
            name = str(event["node"])
            before, self.nodes[name] = self.nodes.get(name, {}), event
            return event if before.get("state") != event.get("state") else None
        return None

    @property
    def offset(self) -> int:
        """Bytes that are there, of all nodes."""
        return _number(self.whole, "bytes")

    @property
    def size(self) -> int:
        """Bytes that all nodes need, as far as it is known."""
        return _number(self.whole, "total")

    def slowest(self) -> list[Mapping[str, Any]]:
        """Nodes that are at it, those that have the longest way to go first."""
        busy = [each for each in self.nodes.values() if each.get("state") not in SETTLED]
        return sorted(busy, key=_share)[:SHOWN]

    def line(self) -> str:
        """All nodes together, in words."""
        whole = self.whole
        words = [
            f"{_number(whole, 'done')} of {wording.counted(_number(whole, 'nodes'), 'node')} done",
            f"{wording.size(self.offset)} of {wording.size(self.size)}",
            f"{wording.size(_number(whole, 'rate'))}/s",
        ]
        if left := whole.get("seconds_left"):
            words.append(f"about {wording.span(float(left))} to go")
        if failed := _number(whole, "failed"):
            words.append(f"{failed} failed")
        if slow := self.slowest():
            words.append("slowest: " + ", ".join(map(shown, slow[:3])))
        return ", ".join(words)


def shown(node: Mapping[str, Any]) -> str:
    """A node that is at it: its name, and how much of it is there."""
    return f"{node.get('node')} {int(_share(node) * 100)}%"


def settled_line(node: Mapping[str, Any]) -> str:
    """What is to be said of a node whose state has changed."""
    name, state = node.get("node"), node.get("state")
    if state == "done":
        there = wording.size(_number(node, "bytes"))
        return f"{name}  done  {there} in {float(node.get('seconds') or 0):.1f} s"
    if state == "failed":
        return f"{name}  failed  {node.get('error')}"
    return f"{name}  {state}"


def _share(node: Mapping[str, Any]) -> float:
    total = _number(node, "total")
    return min(_number(node, "bytes") / total, 1.0) if total else 0.0


def _number(members: Mapping[str, Any], key: str) -> int:
    value = members.get(key)
    return int(value) if isinstance(value, int | float) else 0
