"""People's side of a cluster by NATS: real daemons, a real nats-server, and registryctl."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.cluster import Cluster, Node, cluster
from tests.real.conftest import Upstream
from tests.real.nats import NatsServer, nats_server

#: Looks at a state that has to come, each of them a command of its own (a tenth of a second).
LOOKS = 300


def answers_in_time(claim: Callable[[], bool]) -> None:
    """Look until it is so."""
    assert any(claim() for _ in range(LOOKS))


def largest(upstream: Upstream) -> str:
    """The digest of the image's largest layer, which has more than 1 MiB."""
    blobs = upstream.images.layouts["gzip"] / "blobs" / "sha256"
    path = max(blobs.iterdir(), key=lambda each: each.stat().st_size)
    assert path.stat().st_size >= 1 << 20
    return f"sha256:{path.name}"


@dataclass
class Story:
    """Three nodes with their NATS."""

    server: NatsServer
    nodes: Cluster
    upstream: Upstream


@pytest.fixture
def story(tmp_path: Path, everyones: Upstream) -> Iterator[Story]:
    """They run, and have found one another."""
    with nats_server(tmp_path / "nats") as server:
        more = {"peers": [], "nats": [server.url], "address": "127.0.0.1", "zone": "r1"}
        with cluster(tmp_path / "c", everyones.sections, 3, more) as nodes:
            story = Story(server, nodes, everyones)
            answers_in_time(lambda: all(known(node) == ["n1", "n2", "n3"] for node in nodes.nodes))
            yield story


def told(node: Node, *words: str) -> Any:
    """What registryctl says on a node, for programs."""
    ran = node.daemon.ctl(*words, "--format", "json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def known(node: Node) -> list[str]:
    """Whom a node knows."""
    return [each["name"] for each in told(node, "nodes")["nodes"]]


def test_nodes(story: Story) -> None:
    """The list on each node; a node that is killed leaves it within seconds."""
    answers_in_time(lambda: all(each["free"] for each in told(story.nodes[0], "nodes")["nodes"]))
    said = told(story.nodes[0], "nodes")
    status = told(story.nodes[0], "status")["cluster"]
    second = said["nodes"][1]
    table = story.nodes[0].daemon.ctl("nodes").out
    story.nodes[2].kill()
    answers_in_time(lambda: known(story.nodes[0]) == ["n1", "n2"])

    assert ("nats", "n1", True) == (said["kind"], said["me"], said["connected"])
    assert (f"https://127.0.0.1:{story.nodes[1].port}", "r1", 0) == (
        second["url"], second["zone"], second["load"],
    )  # fmt: skip
    assert ("n1", 3) == (status["me"], status["nodes"])
    assert "n1 *" in table
    assert "this node" in table


def test_nats_goes_and_comes(story: Story) -> None:
    """Without NATS the nodes are those that were known, and people are told; then it is back."""
    story.server.kill()
    answers_in_time(lambda: not told(story.nodes[0], "nodes")["connected"])
    away = story.nodes[0].daemon.ctl("nodes")
    asked = story.nodes[0].daemon.ctl("cache", "whohas", "sha256:" + "0" * 64)
    story.server.start()
    answers_in_time(lambda: all(told(node, "nodes")["connected"] for node in story.nodes.nodes))

    assert (0, 4) == (away.code, len(away.out.splitlines()))
    assert "NATS is away" in away.err
    assert (6, "nobody can be asked" in asked.err) == (asked.code, True)
    assert ["n1", "n2", "n3"] == known(story.nodes[1])


def test_whohas(story: Story) -> None:
    """A layer that one node has pulled is found on it from another one, until it is removed.

    It may be found on a third one too, which has fetched it for the first.
    """
    name, layer = story.upstream.name("gzip"), largest(story.upstream)
    one, two, _ = story.nodes.nodes
    before = two.daemon.ctl("cache", "whohas", layer)
    story.nodes.pull(name, [one])
    found = told(two, "cache", "whohas", layer)
    own = told(one, "cache", "whohas", layer)
    removed = one.daemon.ctl("rmi", name)
    answers_in_time(lambda: "n1" not in two.daemon.ctl("cache", "whohas", layer, "-q").out.split())

    assert (2, 0) == (before.code, removed.code)
    assert "no node says that it has" in before.err
    assert layer == found["digest"] == own["digest"]
    # One of each group answers: the third node may speak for the first.
    assert {"n1", "n3"} & {each["name"] for each in found["holders"] if each["whole"]}
    assert {"name": "n1", "whole": True} == own["holders"][0]
