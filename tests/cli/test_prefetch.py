"""``prefetch``, ``jobs`` and ``jobs cancel``: what is asked, what is said, how they end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registryd.cli.cluster_bars import ClusterBars
from registryd.cli.cluster_progress import PlainCluster
from registryd.cli.cluster_tally import ClusterTally
from registryd.cli.console import Console
from tests.cli.conftest import Outcome
from tests.cli.test_progress import Terminal
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]

ID = "0123456789ab"
DIGEST = "sha256:" + "a" * 64
MIB = 1 << 20
RESOLVED = {"event": "resolved", "reference": "docker.io/library/alpine:3", "digest": DIGEST}
JOB = {"event": "job", "id": ID}
WHOLE = {
    "event": "cluster", "nodes": 3, "done": 1, "failed": 1, "missing": [], "bytes": 15 * MIB,
    "total": 30 * MIB, "rate": 5 * MIB, "seconds_left": 3.0,
}  # fmt: skip


def node(name: str, state: str = "fetching", here: int = 5, **more: Any) -> dict[str, Any]:
    """What a node says; it needs 10 MiB."""
    return {
        "event": "node", "job": ID, "node": name, "state": state, "bytes": here * MIB,
        "total": 10 * MIB, "blobs": 2, "seconds": 2.0, "error": "", **more,
    }  # fmt: skip


def done(whole: tuple[str, ...] = (), missing: tuple[str, ...] = (), **failed: str) -> Any:
    """The last event of a job that was waited for."""
    return {
        "event": "done", "job": ID, "waited": True, "done": list(whole), "missing": list(missing),
        "failed": [{"node": name, "error": error} for name, error in failed.items()],
        "seconds": 2.5,
    }  # fmt: skip


def scripted(daemon: FakeDaemon, *events: Any, cut: bool = False) -> None:
    """What the daemon tells of a prefetch."""
    daemon.on("POST", "/api/v1/prefetch", Answer.events(RESOLVED, JOB, *events, cut=cut))


def test_what_is_asked(through: Run, daemon: FakeDaemon) -> None:
    """The arguments go to the daemon, names in full; the job's id comes out."""
    scripted(daemon, {"event": "done", "job": ID, "waited": False})
    ran = through("prefetch", "alpine:3", "ghcr.io/a/b", "--nodes", "a[1-64]", "--for", "2h",
                  "--platform", "arm64,amd64")  # fmt: skip
    through("prefetch", "alpine", "--all", "--wait", "--timeout", "5m", "--all-platforms")

    assert (0, f"{ID}\n") == (ran.code, ran.out)
    assert {
        "references": ["docker.io/library/alpine:3", "ghcr.io/a/b:latest"], "nodes": "a[1-64]",
        "lasting": "2h", "platforms": ["linux/arm64/v8", "linux/amd64"], "all_platforms": False,
        "everywhere": False, "wait": False,
    } == daemon.requests[0].body  # fmt: skip
    assert {
        "references": ["docker.io/library/alpine:latest"], "everywhere": True, "wait": True,
        "timeout": "5m", "platforms": [], "all_platforms": True,
    } == daemon.requests[1].body  # fmt: skip


def test_no_credential_goes_along(through: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    """A login of the user is never sent: each node has its own."""
    scripted(daemon, {"event": "done", "job": ID, "waited": False})
    through.environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")  # type: ignore[attr-defined]
    entry = {"auths": {"ghcr.io": {"auth": "dTpw"}}}
    (tmp_path / "auth.json").write_text(json.dumps(entry))
    through("prefetch", "ghcr.io/a/b", "--all")
    refused = through("prefetch", "ghcr.io/a/b", "--all", "--creds", "u:p")

    assert "authorization" not in daemon.requests[0].headers
    assert "dTpw" not in json.dumps(daemon.requests[0].body)
    assert 64 == refused.code


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        (done(("n1", "n2")), 0, ["2 nodes done in 2.5 s"]),
        (done(("n1",), n2="no room"), 7, ["registryctl: n2: no room", "1 of 2 nodes failed"]),
        (done(("n1",), ("n2", "n3")), 7, ["not done yet: n[2-3] (who comes later catches up"]),
        (done((), ("n2",)), 7, ["not done yet: n2"]),
        (done((), n1="no room"), 1, ["registryctl: n1: no room", "1 of 1 nodes failed"]),
        ({"event": "failed", "message": "no such tag", "exit_code": 2}, 2, ["no such tag"]),
        ({"event": "failed", "message": "no cluster", "exit_code": 6}, 6, ["no cluster"]),
    ],
)
def test_how_it_ends(
    through: Run, daemon: FakeDaemon, last: Any, code: int, said: list[str]
) -> None:
    """The exit code says whether all, some or none have it; who has not is named."""
    scripted(daemon, last)
    ran = through("prefetch", "alpine:3", "--all", "--wait")

    assert code == ran.code
    for text in said:
        assert text in ran.err, ran.err


def test_as_json(through: Run, daemon: FakeDaemon) -> None:
    """--progress json is the events on stderr; --format json is the last one on stdout."""
    scripted(daemon, node("n1", "done"), WHOLE, done(("n1",)))
    ran = through("prefetch", "alpine:3", "--all", "--wait", "--progress", "json",
                  "--format", "json")  # fmt: skip

    assert [RESOLVED, JOB, node("n1", "done"), WHOLE, done(("n1",))] == [
        json.loads(line) for line in ran.words
    ]
    assert {key: value for key, value in done(("n1",)).items() if key != "event"} == json.loads(
        ran.out
    )


def test_plain(through: Run, daemon: FakeDaemon) -> None:
    """Plain progress has what names mean, and each node when it has settled."""
    scripted(daemon, node("n1"), node("n1", "done", 10), node("n2", "failed", error="no room"),
             WHOLE, done(("n1",), n2="no room"))  # fmt: skip
    ran = through("prefetch", "alpine:3", "--all", "--wait", "--progress", "plain")

    assert [
        f"docker.io/library/alpine:3 is {DIGEST}",
        "n1  done  10.0 MiB in 2.0 s",
        "n2  failed  no room",
    ] == ran.words[:3]


def test_now_and_then_all_together() -> None:
    """Every ten seconds there is a line for all nodes, with the slowest of those at it."""
    err, now = io.StringIO(), [0.0]
    plain = PlainCluster(Console(io.StringIO(), err, io.StringIO()), lambda: now[0])
    for event in (node("n1", "done", 10), node("n2", here=1), node("n3", here=4), WHOLE):
        plain(event)
    now[0] = 10.0
    for _ in range(2):
        plain(WHOLE)

    (line,) = err.getvalue().splitlines()[1:]

    assert "1 of 3 nodes done, 15.0 MiB of 30.0 MiB, 5.0 MiB/s, about 3 seconds to go" in line
    assert line.endswith(", 1 failed, slowest: n2 10%, n3 40%")


def test_bars() -> None:
    """The bars name the nodes that are done, and the slowest; those that have settled are gone."""
    err, tally = Terminal(), ClusterTally()
    bars = ClusterBars(err)
    for event in (JOB, node("n1", "done"), *(node(f"s{n}", here=n) for n in range(9)), WHOLE):
        tally.take(event)
        bars.draw(tally)
    bars.close()

    assert ["s0", "s1", "s2", "s3", "s4"] == [each["node"] for each in tally.slowest()]
    assert "1 of 3 nodes" in err.getvalue()


def test_unknown_events() -> None:
    """What a newer daemon says changes nothing."""
    tally = ClusterTally()
    for event in ({}, {"event": "new"}, {"event": "node"}, {"event": "cluster", "bytes": "x"}):
        assert tally.take(event) is None

    assert (0, 0, []) == (tally.offset, tally.size, tally.slowest())


def test_no_daemon(ctl: Run) -> None:
    """Without a daemon there is nobody whose work it is."""
    ran = ctl("prefetch", "alpine:3")

    assert (6, True) == (ran.code, "none answers here" in ran.err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("A b",), "not an image reference"),
        (("alpine", "--timeout", "1m"), "--timeout is the longest wait: it needs --wait"),
        (("--file", "/nowhere"), "--file /nowhere: No such file"),
        (("alpine", "--all-platforms", "--platform", "arm64"), "not allowed with"),
    ],
)
def test_wrong_usage(through: Run, daemon: FakeDaemon, words: tuple[str, ...], said: str) -> None:
    """What can be seen to be wrong is refused without the daemon."""
    ran = through("prefetch", *words)

    assert (64, []) == (ran.code, daemon.requests)
    assert said in ran.err


def test_a_file_of_wishes(through: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    """The file goes to the daemon as it is; a mistake in it is told before."""
    scripted(daemon, {"event": "done", "job": ID, "waited": False})
    file = tmp_path / "wishes.yaml"
    file.write_text("images:\n  alpine: ['3.*']\n")
    good = through("prefetch", "--file", str(file))
    file.write_bytes(b"\xff")
    bytes_ = through("prefetch", "--file", str(file))
    file.write_text("images:\n  alpine: ['!']\n")
    wrong = through("prefetch", "--file", str(file))

    assert (0, "images:\n  alpine: ['3.*']\n") == (good.code, daemon.requests[0].body["wishes"])
    assert (64, "not UTF-8" in bytes_.err) == (bytes_.code, True)
    assert (64, "line 2: '!' is neither" in wrong.err, 1) == (
        wrong.code,
        True,
        len(daemon.requests),
    )


LISTED = {
    "id": ID, "kind": "images", "state": "active", "on": "a[1-3]", "created": "x", "until": "y",
    "images": [{"reference": "docker.io/library/alpine:3", "digest": DIGEST}, {"reference": "b"}],
    "nodes": {"all": 3, "done": 1, "failed": 1, "bytes": 15 * MIB, "total": 30 * MIB},
}  # fmt: skip


def test_jobs(through: Run, daemon: FakeDaemon) -> None:
    """A row a job; with -q the ids; none is no failure."""
    daemon.on("GET", "/api/v1/jobs", Answer.of({"jobs": [LISTED]}))
    head, row = through("jobs").out.splitlines()
    quiet, whole = through("jobs", "-q"), through("jobs", "--format", "json")
    daemon.on("GET", "/api/v1/jobs", Answer.of({"jobs": []}))
    none = through("jobs")

    assert "JOB IMAGES ON DONE FAILED NODES HERE OF BEGUN ENDS STATE" == " ".join(head.split())
    assert (
        f"{ID} docker.io/library/alpine:3 +1 a[1-3] 1 1 3 15.0 MiB 30.0 MiB x y active"
    ) == " ".join(row.split())
    assert (f"{ID}\n", {"jobs": [LISTED]}) == (quiet.out, json.loads(whole.out))
    assert (0, "", "there are no jobs\n") == (none.code, none.out, none.err)


def test_one_job(through: Run, daemon: FakeDaemon) -> None:
    """A job with its images, a row a node, and who has not said a word."""
    words = [node("a1", "done", 10), node("a2", "failed", 1, error="no room")]
    daemon.on("GET", "/api/v1/job", Answer.of({**LISTED, "standings": words, "silent": ["a3"]}))
    ran = through("jobs", ID)
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]

    assert {"id": ID} == daemon.requests[0].query
    assert f"image 1: docker.io/library/alpine:3 is {DIGEST}" in lines
    assert ["NODE STATE HERE OF BLOBS SECONDS ERROR", "a1 done 10.0 MiB 10.0 MiB 2 2.0 -",
            "a2 failed 1.0 MiB 10.0 MiB 2 2.0 no room"] == lines[-3:]  # fmt: skip
    assert "no word yet of a3\n" == ran.err


def test_cancel(through: Run, daemon: FakeDaemon) -> None:
    """Each job is ended; its id comes out, and what becomes of the bytes is said."""
    daemon.on("POST", "/api/v1/jobs/cancel", Answer.of({"id": ID, "state": "cancelled"}))
    ran = through("jobs", "cancel", ID)

    assert (0, f"{ID}\n", {"id": ID}) == (ran.code, ran.out, daemon.requests[0].body)
    assert "goes on to its end" in ran.err
