"""``status``: what the daemon is, how it serves, what it fetches."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.cli.conftest import Outcome
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]

DIGEST = "sha256:" + "a" * 64


def test_status(through: Run, daemon: FakeDaemon) -> None:
    """What the daemon is, and what it is fetching; unknown totals have a dash."""
    flight = {
        "digest": DIGEST,
        "offset": 1024,
        "total": None,
        "source": "ghcr.io",
        "repository": "ghcr.io/a/b",
        "received": 1024,
        "seconds": 2.0,
        "waiters": 3,
    }
    state = {
        "version": "9", "pid": 4, "listeners": ["unix:/x"], "blobs": 2, "flights": [flight],
        "lookups": {"manifest_hit": 1, "blob_hit": 5, "blob_miss": 3, "blob_wait": 2},
        "stale_registries": [{"registry": "ghcr.io", "cause": "unreachable"}],
        "rate_limits": [{"registry": "docker.io", "account": "ann", "limit": 200, "remaining": 9,
                         "window_seconds": 21600, "source": ""}],
        "scrub": {"period_seconds": 0, "all_proven_since": None, "bad": 2, "fetched_again": 1},
        "mirrors_left_alone": [{"host": "m:5000", "seconds": 40.0, "cause": "it is away"}],
        "lower": [{"path": "/shared", "public": True, "usable": True, "cause": "", "names": 12,
                   "blobs": 1, "bytes": 1024, "errors": 2}],
    }  # fmt: skip
    daemon.on("GET", "/api/v1/status", Answer.of(state))

    lines = through("status").out.splitlines()

    assert [lines[0].split(), lines[1].split()] == [
        ["daemon:", "on", str(daemon.socket)],
        ["version:", "9"],
    ]
    facts = dict(" ".join(line.split()).split(": ", 1) for line in lines if ": " in line)
    assert "5 held, 3 fetched, 2 on their way already" == facts["blobs given"]
    assert "1 held, 0 fetched, 0 on their way already" == facts["manifests given"]
    assert ("ghcr.io (unreachable)", "1 blob") == (facts["without word of"], facts["fetching"])
    proven = "not every blob yet (no scrub in the background); 2 put aside, 1 of them fetched again"
    assert proven == facts["proven"]
    assert "9 of 200 in 6 hours to ann" == facts["docker.io allows"]
    assert "/shared: 12 images, gave 1 blob, 1.0 KiB, 2 errors" == facts["lower store"]
    assert "m:5000 for 40 seconds (it is away)" == facts["mirrors left alone"]
    assert " ".join(lines[-1].split()) == ("aaaaaaaaaaaa ghcr.io/a/b ghcr.io 1.0 KiB - - 512 B/s 3")
    assert json.loads(through("status", "--format", "json").out) == state


def test_an_older_daemon(through: Run, daemon: FakeDaemon) -> None:
    """What a daemon does not say is shown as nothing, not as an error."""
    daemon.on("GET", "/api/v1/status", Answer.of({"flights": [{"digest": DIGEST}]}))

    lines = through("status").out.splitlines()

    assert "aaaaaaaaaaaa - - 0 B - - - 0" == " ".join(lines[-1].split())
    assert not [line for line in lines if line.startswith("without word of")]


def test_a_node_among_others(through: Run, daemon: FakeDaemon) -> None:
    """Which node it is, of how many, and who is left out for lies; nothing where it is alone."""
    cluster = {"kind": "static", "me": "n1:5051", "connected": True, "nodes": 16, "liars": ["n3"]}
    daemon.on("GET", "/api/v1/status", Answer.of({"cluster": cluster}))
    lines = [line.split(": ", 1) for line in through("status").out.splitlines()]
    facts = {name: value.strip() for name, value in lines}
    daemon.on("GET", "/api/v1/status", Answer.of({"cluster": {"kind": "none", "me": ""}}))

    assert ("n1:5051 of 16 nodes", "n3") == (facts["cluster"], facts["left out for lies"])
    assert "cluster:" not in through("status").out
