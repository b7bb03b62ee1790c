"""``nodes`` and ``cache whohas``: what they ask a daemon for, and what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registryd.cli.commands.nodes import AWAY, NO_CLUSTER
from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]
DIGEST = "sha256:" + "a" * 64


def shown(name: str, **more: Any) -> dict[str, Any]:
    """A node of which nothing is known but its name."""
    nothing = dict.fromkeys(("load", "free", "heard_seconds"))
    return {"name": name, "url": f"https://{name}", "zone": "", "version": "", **nothing, **more}


def members(*nodes: dict[str, Any], connected: bool = True) -> dict[str, Any]:
    """What a daemon says, which is n1 itself."""
    me = "n1" if nodes else ""
    return {"kind": "nats", "me": me, "connected": connected, "nodes": list(nodes)}


TWO = members(
    shown("n1", zone="r1", version="1.0", load=2, free=3 << 30, heard_seconds=0.0),
    shown("n2", heard_seconds=61.5),
    shown("n3"),
)


def scripted(daemon: FakeDaemon, said: dict[str, Any]) -> dict[str, Any]:
    """Let the daemon have these nodes."""
    daemon.on("GET", "/api/v1/nodes", Answer.of(said))
    return said


def test_a_table(through: Run, daemon: FakeDaemon) -> None:
    """A line for each node, this one with a star; what is not known is a dash."""
    scripted(daemon, TWO)
    said = through("nodes")

    assert [
        "NODE ZONE LOAD FREE VERSION SEEN",
        "n1 * r1 2 3.0 GiB 1.0 this node",
        "n2 - - - - 1 minute ago",
        "n3 - - - - -",
    ] == [" ".join(line.split()) for line in said.out.splitlines()]
    assert (0, "") == (said.code, said.err)


def test_for_programs(through: Run, daemon: FakeDaemon) -> None:
    """JSON is what the daemon said; -q gives names."""
    scripted(daemon, TWO)

    assert json.loads(through("nodes", "--format", "json").out) == TWO
    assert "n1\nn2\nn3\n" == through("nodes", "-q").out


def test_without_nats(through: Run, daemon: FakeDaemon) -> None:
    """That the list is an old one is said to people."""
    scripted(daemon, {**TWO, "connected": False})
    said = through("nodes")

    assert (0, 4, f"{AWAY}\n") == (said.code, len(said.out.splitlines()), said.err)


def test_without_a_cluster(through: Run, daemon: FakeDaemon, ctl: Ctl, tmp_path: Path) -> None:
    """No cluster is no failure: it is said, and programs get an empty list; so without a daemon."""
    nobody = scripted(daemon, members())
    root = ("--root", str(tmp_path / "cache"))
    ctl.environ.pop("REGISTRYD_SOCKET")
    own = ctl(*root, "nodes", "--format", "json")
    ctl.environ["REGISTRYD_SOCKET"] = str(daemon.socket)
    said = through("nodes")

    assert (0, "", f"{NO_CLUSTER}\n") == (said.code, said.out, said.err)
    assert nobody == json.loads(through("nodes", "--format", "json").out)
    assert {**nobody, "kind": "none"} == json.loads(own.out)


HOLDERS = {
    "digest": DIGEST,
    "holders": [{"name": "n1", "whole": True}, {"name": "n2", "whole": False}],
}


def test_holders(through: Run, daemon: FakeDaemon) -> None:
    """Who has it whole, and who is receiving it."""
    daemon.on("GET", "/api/v1/cache/whohas", Answer.of(HOLDERS))
    lines = through("cache", "whohas", DIGEST).out.splitlines()

    assert ["NODE HAS IT", "n1 whole", "n2 on its way"] == [
        " ".join(line.split()) for line in lines
    ]
    assert {"digest": DIGEST} == daemon.requests[-1].query
    assert json.loads(through("cache", "whohas", DIGEST, "--format", "json").out) == HOLDERS
    assert "n1\nn2\n" == through("cache", "whohas", DIGEST, "-q").out


@pytest.mark.parametrize("words", [(), ("--format", "json"), ("-q",)])
def test_nobody_has_it(through: Run, daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    """It is not found: exit code 2, in one line, however it was asked."""
    nobody = {"digest": DIGEST, "holders": []}
    daemon.on("GET", "/api/v1/cache/whohas", Answer.of(nobody))
    said = through("cache", "whohas", DIGEST, *words)

    assert 2 == said.code
    assert 1 == len(said.words)
    assert f"no node says that it has {DIGEST}" in said.err
    assert nobody == json.loads(said.out) if "json" in words else not said.out


def test_without_anybody_to_ask(ctl: Ctl, tmp_path: Path) -> None:
    """Where there is no cluster that is said; a digest that is none is wrong usage."""
    root = ("--root", str(tmp_path / "cache"), "cache", "whohas")
    refused, wrong = ctl(*root, DIGEST), ctl(*root, "sha256:what")

    assert (64, 64) == (refused.code, wrong.code)
    assert "this node has no cluster" in refused.err
    assert "sha256:what" in wrong.err


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (None, None),
        ({"kind": "none", "me": "", "connected": True, "nodes": 0}, None),
        ({"kind": "static", "me": "n1:1", "connected": True, "nodes": 64}, "n1:1 of 64 nodes"),
        ({"kind": "nats", "me": "n1", "connected": False, "nodes": 1},
         "n1 of 1 node, but NATS is away"),
    ],
)  # fmt: skip
def test_status(through: Run, daemon: FakeDaemon, cluster: Any, said: str | None) -> None:
    """The cluster in a word; of a node without one, nothing."""
    daemon.on("GET", "/api/v1/status", Answer.of({"cluster": cluster}))
    lines = through("status").out.splitlines()

    found = [line for line in lines if line.startswith("cluster:")]
    assert ([said] if said else []) == [line.split(maxsplit=1)[1] for line in found]
