"""Prefetch by real daemons: with NATS, and in a static cluster.

The upstream is a scripted registry: it holds back what a test wants to look at half-way.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry, digest_of
from tests.real.job_nodes import JobNodes, events, job_nodes
from tests.real.nats import NatsServer, nats_server
from tests.real.stories import blobs_of, daemon, in_thread

LAYER = random.Random(1).randbytes(3_000_000)
OTHER = random.Random(2).randbytes(200_000)
#: As long as a story may take on a busy machine.
PATIENCE = "90s"
KINDS = ("nats", "static")

Upstream = tuple[FakeRegistry, Callable[[Callable[[], object]], None]]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A registry with an image, and how something is done on its loop."""
    registry = FakeRegistry()
    registry.add_image("team/app", "1", LAYER)
    with in_thread(registry) as call:
        yield registry, call


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS of the test's own."""
    with nats_server(tmp_path / "nats") as running:
        yield running


@contextmanager
def nodes_of(kind: str, folder: Path, upstream: Upstream, count: int) -> Iterator[JobNodes]:
    """Nodes of a cluster of this kind; none of them runs."""
    if kind == "static":
        with job_nodes(folder / "nodes", upstream[0], count) as nodes:
            yield nodes
        return
    with (
        nats_server(folder / "nats") as server,
        job_nodes(folder / "nodes", upstream[0], count, nats=server.url) as nodes,
    ):
        yield nodes


def app(upstream: Upstream, tag: str = "1") -> str:
    """The image's name."""
    return f"{upstream[0].name}/team/app:{tag}"


def stalled(upstream: Upstream) -> Callable[[], None]:
    """Hold back the layer, until the function that is given is called."""
    registry, call = upstream
    gate = asyncio.Event()
    registry.stall(f"GET .*/{digest_of(LAYER)}", gate, at=100_000, times=None)
    return lambda: call(gate.set)


@pytest.mark.parametrize("kind", KINDS)
def test_all_nodes_have_it(kind: str, tmp_path: Path, upstream: Upstream) -> None:
    """Four nodes bring an image; its tag means on each what it meant then, until the job ends."""
    with nodes_of(kind, tmp_path, upstream, 4) as nodes:
        nodes.start(1, 2, 3, 4)
        ctl, names = nodes[1].ctl, ",".join(map(nodes.id, (1, 2, 3, 4)))
        flags = ("--nodes", names, "--wait", "--timeout", PATIENCE, "--progress", "json")
        ran = ctl("prefetch", app(upstream), *flags)
        old = ctl.json("digest", app(upstream))["digest"]
        held = [blobs_of(nodes[number].root) for number in (1, 2, 3, 4)]
        upstream[1](lambda: upstream[0].add_image("team/app", "1", OTHER))
        pinned = [nodes[number].ctl.json("digest", app(upstream))["digest"] for number in (2, 4)]
        listed = ctl.json("jobs")["jobs"]
        ctl.ok("jobs", "cancel", ran.out.strip())
        nodes.until(lambda: nodes[4].ctl.json("digest", app(upstream))["digest"] != old)

    assert 0 == ran.code, ran.err
    assert [held[0]] * 4 == held
    assert digest_of(LAYER) in held[0]
    assert [old, old] == pinned
    assert {"all": 4, "done": 4, "failed": 0, "fetching": 0, "cancelled": 0}.items() <= (
        listed[0]["nodes"].items()
    )
    last = events(ran.err)[-1]
    assert ("done", True, 4, [], []) == (
        last["event"], last["waited"], len(last["done"]), last["failed"], last["missing"]
    )  # fmt: skip
    cluster = [event for event in events(ran.err) if event["event"] == "cluster"][-1]
    assert (4 * (len(LAYER) + 37), 4) == (cluster["bytes"], cluster["done"])


def test_a_node_that_comes_late(tmp_path: Path, upstream: Upstream, server: NatsServer) -> None:
    """A node that is not there is named, not waited for, and catches up by itself."""
    with job_nodes(tmp_path / "nodes", upstream[0], 3, nats=server.url) as nodes:
        nodes.start(1, 2)
        nodes.until_members(1, 2)
        ran = nodes[1].ctl("prefetch", app(upstream), "--nodes", "n[1-3]", "--wait")
        nodes.start(3)
        nodes.until(lambda: nodes.job(1, ran.out.strip()).get("n3", {}).get("state") == "done")
        late = nodes[3].ctl.ok("images", "-q")

    assert 7 == ran.code
    assert "not done yet: n3 (who comes later catches up" in ran.err
    assert late


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_killed_in_the_middle(kind: str, tmp_path: Path, upstream: Upstream) -> None:
    """A node that is killed while it fetches goes on when it is back; who waits, waits for it."""
    release = stalled(upstream)
    with nodes_of(kind, tmp_path, upstream, 2) as nodes:
        nodes.start(1, 2)
        names = ",".join(map(nodes.id, (1, 2)))
        flags = ("--nodes", names, "--wait", "--timeout", PATIENCE)
        waiting = nodes[1].ctl.begin("prefetch", app(upstream), *flags)
        nodes.until(lambda: nodes[1].ctl.json("jobs")["jobs"])
        (job,) = nodes[1].ctl.json("jobs")["jobs"]
        nodes.until(lambda: nodes.job(1, job["id"]).get(nodes.id(2), {}).get("state") == "fetching")
        nodes.kill(2)
        release()
        nodes.start(2)
        out, err = waiting.communicate()
        held = blobs_of(nodes[2].root)

    assert 0 == waiting.returncode, err.decode()
    assert job["id"] == out.decode().strip()
    assert digest_of(LAYER) in held


@pytest.mark.parametrize("kind", KINDS)
def test_cancel(kind: str, tmp_path: Path, upstream: Upstream) -> None:
    """A cancelled job ends on all nodes, and for who waits; what is on its way goes on."""
    release = stalled(upstream)
    with nodes_of(kind, tmp_path, upstream, 2) as nodes:
        nodes.start(1, 2)
        names = ",".join(map(nodes.id, (1, 2)))
        flags = ("--nodes", names, "--wait", "--timeout", PATIENCE)
        waiting = nodes[1].ctl.begin("prefetch", app(upstream), *flags)
        nodes.until(lambda: nodes[1].ctl.json("jobs")["jobs"])
        (job,) = nodes[1].ctl.json("jobs")["jobs"]
        nodes.until(
            lambda: [each["state"] for each in nodes.job(1, job["id"]).values()] == ["fetching"] * 2
        )
        told = nodes[1].ctl("jobs", "cancel", job["id"])
        _, err = waiting.communicate()
        listed = nodes[1].ctl.json("jobs")["jobs"][0]
        release()
        nodes.until(lambda: digest_of(LAYER) in blobs_of(nodes[2].root))

    assert (0, job["id"]) == (told.code, told.out.strip())
    assert "goes on to its end" in told.err
    assert (1, "cancelled", 2) == (
        waiting.returncode, listed["state"], listed["nodes"]["cancelled"]
    )  # fmt: skip
    assert "2 of 2 nodes failed" in err.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_fails(kind: str, tmp_path: Path, upstream: Upstream) -> None:
    """A node whose configuration refuses the registry has failed, and is named with its line."""
    with nodes_of(kind, tmp_path, upstream, 2) as nodes:
        nodes.start(1)
        nodes.start(2, more={"access": {"allow": ["other.test"]}, "registries": {}})
        names = ",".join(map(nodes.id, (1, 2)))
        flags = ("--nodes", names, "--wait", "--timeout", PATIENCE)
        ran = nodes[1].ctl("prefetch", app(upstream), *flags)
        id = ran.out.strip()
        said = nodes.job(1, id)[nodes.id(2)]

    assert 7 == ran.code, ran.err
    assert f"registryctl: {nodes.id(2)}: {said['error']}" in ran.err
    assert "allow" in said["error"]
    assert "1 of 2 nodes failed" in ran.err


def test_a_node_whose_disk_is_full(tmp_path: Path, upstream: Upstream, server: NatsServer) -> None:
    """A node without room has failed, and says which disk is full; the others have the image."""
    root = tmp_path / "nodes" / "n2" / "root"
    mount = f'mkdir -p "{root}"; mount -t tmpfs -o size=2m none "{root}"; exec "$@"'
    small = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount")
    with job_nodes(tmp_path / "nodes", upstream[0], 2, nats=server.url) as nodes:
        nodes.start(1)
        nodes.start(2, before=(*small, "sh", "-c", mount, "sh"))
        flags = ("--nodes", "n[1-2]", "--wait", "--timeout", PATIENCE)
        ran = nodes[1].ctl("prefetch", app(upstream), *flags)
        held = blobs_of(nodes[1].root)

    assert 7 == ran.code, ran.err
    assert digest_of(LAYER) in held
    (line,) = [each for each in ran.err.splitlines() if each.startswith("registryctl: n2: ")]
    assert "space" in line.lower(), line
    assert str(root) in line


def test_a_peer_that_is_not_there(tmp_path: Path, upstream: Upstream) -> None:
    """Without an engine nobody is late: a peer that does not answer has failed."""
    with job_nodes(tmp_path / "nodes", upstream[0], 2) as nodes:
        nodes.start(1)
        ran = nodes[1].ctl("prefetch", app(upstream), "--all", "--wait")

    assert 7 == ran.code, ran.err
    assert f"registryctl: {nodes.id(2)}: peer {nodes.id(2)}: " in ran.err
    assert "1 of 2 nodes failed" in ran.err


def test_nats_has_gone(tmp_path: Path, upstream: Upstream, server: NatsServer) -> None:
    """Without NATS no job can be put up, which is said; with it again it can."""
    with job_nodes(tmp_path / "nodes", upstream[0], 1, nats=server.url) as nodes:
        nodes.start(1)
        nodes[1].ctl.ok("prefetch", app(upstream), "--all", "--wait")
        server.kill()
        nodes.until(lambda: "has gone" in nodes[1].log)
        gone = nodes[1].ctl("prefetch", app(upstream), "--all")
        server.start()
        nodes.until(lambda: nodes[1].ctl("prefetch", app(upstream), "--all", "--wait").code == 0)

    assert 6 == gone.code
    assert "registryctl: the cluster is out of reach: NATS is away" in gone.err


def test_a_done_job_costs_nothing(tmp_path: Path, upstream: Upstream, server: NatsServer) -> None:
    """A node that starts again takes up its jobs: what is still here is not asked for again."""
    registry = upstream[0]
    with job_nodes(tmp_path / "nodes", registry, 1, nats=server.url) as nodes:
        nodes.start(1)
        ctl = nodes[1].ctl
        id = ctl.ok("prefetch", app(upstream), "--all", "--wait").strip()
        old = ctl.json("digest", app(upstream))["digest"]
        first = nodes.job(1, id)["n1"]["at"]
        nodes.kill(1)
        registry.answer("/v2/team/app/", 500, times=None)
        asked = len(registry.lines("/v2/team/app/"))
        nodes.start(1)
        nodes.until(lambda: nodes.job(1, id)["n1"]["at"] != first)
        nodes.until(lambda: nodes.job(1, id)["n1"]["state"] in ("done", "failed"))
        again = nodes.job(1, id)["n1"]
        pinned = nodes[1].ctl.json("digest", app(upstream))["digest"]

    assert ("done", len(LAYER) + 37) == (again["state"], again["bytes"]), again
    assert asked == len(registry.lines("/v2/team/app/"))
    assert old == pinned


def test_what_cannot_be_asked(tmp_path: Path, upstream: Upstream) -> None:
    """A wrong image, wrong words and strange nodes are refused before there is a job."""
    with job_nodes(tmp_path / "nodes", upstream[0], 1) as nodes:
        nodes.start(1)
        ctl = nodes[1].ctl
        cases = {
            (app(upstream, "9"), "--all"): (2, "team/app:9"),
            (app(upstream),): (64, "say which nodes"),
            (app(upstream), "--nodes", "n7"): (64, "n7 is not among the peers"),
            (app(upstream), "--nodes", "n["): (64, "host list"),
            (app(upstream), "--all", "--nodes", "n1"): (64, "contradict"),
            (app(upstream), "--all", "--for", "1s"): (64, "1m to 30d"),
            (app(upstream), "--all", "--timeout", "1s"): (64, "needs --wait"),
            ("localhost/a:1", "--all"): (64, "this node's own"),
            ("--all",): (64, "takes images"),
            ("--all", "--file", "/nowhere"): (64, "/nowhere"),
        }
        found = {words: ctl("prefetch", *words) for words in cases}
        listed = ctl.json("jobs")
        unknown = ctl("jobs", "0123456789ab")

    for words, (code, text) in cases.items():
        assert code == found[words].code, (words, found[words].err)
        assert text in found[words].err, found[words].err
    assert {"jobs": []} == listed
    assert (2, True) == (unknown.code, "there is no job 0123456789ab" in unknown.err)


def test_alone(tmp_path: Path, upstream: Upstream) -> None:
    """A node without a cluster prefetches for itself, and says why it cannot for others."""
    sections = {"registries": {upstream[0].name: {"plain_http": True}}}
    with daemon(tmp_path / "n1", sections) as node:
        ran = node.ctl("prefetch", app(upstream), "--wait")
        others = [node.ctl("prefetch", app(upstream), *w) for w in (("--all",), ("--nodes", "x"))]
        held = blobs_of(node.root)

    assert 0 == ran.code, ran.err
    assert "1 node done in" in ran.err
    assert digest_of(LAYER) in held
    assert [6, 6] == [other.code for other in others]
    assert all("this node has no cluster" in other.err for other in others)


def test_ctrl_c(tmp_path: Path, upstream: Upstream) -> None:
    """Who stops waiting leaves the job running, and is told how to see and to end it."""
    release = stalled(upstream)
    sections = {"registries": {upstream[0].name: {"plain_http": True}}}
    with daemon(tmp_path / "n1", sections) as node:
        waiting = node.ctl.begin("prefetch", app(upstream), "--wait", "--progress", "json")
        assert waiting.stderr is not None
        while b'"state":"fetching"' not in waiting.stderr.readline():
            pass
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate()
        (job,) = node.ctl.json("jobs")["jobs"]
        release()
        while node.ctl.json("jobs")["jobs"][0]["nodes"]["done"] != 1:
            pass

    assert (130, "active") == (waiting.returncode, job["state"])
    assert f"registryctl jobs cancel {job['id']} ends it" in err.decode()


WISHES = """\
nodes: all
refresh: 1h
images:
  {name}/team/app:
    tags: ["v1.*", "1"]
"""


def test_a_list_of_wishes(tmp_path: Path, upstream: Upstream, server: NatsServer) -> None:
    """The tags that fit are brought, others are not; a mistake in the file is told by its line."""
    registry = upstream[0]
    for tag in ("v1.0", "v1.1", "v2.0"):
        registry.add_image("team/app", tag, OTHER)
    wishes = tmp_path / "wishes.yaml"
    wishes.write_text(WISHES.format(name=registry.name))
    broken = tmp_path / "broken.yaml"
    broken.write_text(WISHES.format(name=registry.name) + "    colour: red\n")
    with job_nodes(tmp_path / "nodes", registry, 2, nats=server.url) as nodes:
        nodes.start(1, 2)
        nodes.until_members(1, 2)
        ran = nodes[1].ctl("prefetch", "--file", str(wishes), "--wait", "--timeout", PATIENCE)
        tags = {image["tag"] for image in nodes[2].ctl.json("images")["images"]}
        refused = nodes[1].ctl("prefetch", "--file", str(broken))
        (job,) = nodes[1].ctl.json("jobs")["jobs"]

    assert 0 == ran.code, ran.err
    assert {"1", "v1.0", "v1.1"} == tags
    assert "wishes" == job["kind"]
    assert (64, True) == (refused.code, "line 6: 'colour' is not known here" in refused.err)
