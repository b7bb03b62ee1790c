"""``slurm prolog``, ``epilog`` and ``stage-in``: they end as Slurm wants, and records say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Ctl
from tests.cli.test_copy import DIGEST
from tests.fakes.daemon import Answer, FakeDaemon

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "0", "SLURM_JOB_COMMENT": "image=a.io/b:1"}
DONE = Answer.events({"event": "done"})


SLOW = Answer.events({"event": "resolved"}, {"event": "done"}, pause=0.6)
FAILED = {"event": "failed", "message": "no tar2sqfs", "exit_code": 1}


def record(folder: Path) -> dict[str, str]:
    """The record of job 7."""
    lines = (folder / "job-7").read_text().splitlines()
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def prolog(ctl: Ctl, socket: Path, folder: Path, *words: str, **environ: str) -> str:
    """Run the prolog of job 7, which must end with 0; what it said."""
    ctl.environ.update(JOB | environ)
    ran = ctl("slurm", "prolog", "--state", str(folder), "--socket", str(socket), *words)
    assert (0, "") == (ran.code, ran.out)
    return ran.err


@pytest.mark.parametrize(
    ("environ", "lasting"), [({}, "2h"), ({"SLURM_JOB_END_TIME": "99999999999"}, "366d")]
)
def test_it_is_resolved_pinned_fetched_converted(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, environ: dict[str, str], lasting: str
) -> None:
    """In this order, by the digest, for no longer than Slurm gives the job, or else --keep; the
    record has it when it is there."""
    daemon.on("GET", "/api/v1/digest", Answer.of({"digest": DIGEST}))
    daemon.on("POST", "/api/v1/cache/pin", Answer.of({}))
    daemon.on("POST", "/api/v1/pull", DONE)
    daemon.on("POST", "/api/v1/convert", Answer.events(FAILED))

    said = prolog(ctl, daemon.socket, tmp_path, "--keep", "2h", **environ)

    exact = f"a.io/b@{DIGEST}"
    asked = [request.body for request in daemon.requests[1:]]
    assert [
        {"reference": exact, "name": "job:7", "lasting": lasting},
        {"reference": exact},
        {"reference": exact, "form": "squashfs"},
    ] == asked
    found = record(tmp_path)
    assert ("ready", "a.io/b:1", exact) == (found["state"], found["asked"], found["image"])
    assert "no tar2sqfs" in found["error"]
    assert "no tar2sqfs" in said


@pytest.mark.parametrize(
    ("environ", "asked", "line"),
    [
        ({}, "a.io/b:1", "no daemon answers"),
        ({"SLURM_JOB_COMMENT": "image=A//b"}, "its image", "A//b"),
    ],
)
def test_what_fails_is_in_the_record(
    ctl: Ctl, tmp_path: Path, environ: dict[str, str], asked: str, line: str
) -> None:
    """A node whose daemon is away, or a name that is none, drains no node."""
    said = prolog(ctl, tmp_path / "nobody", tmp_path, **environ)

    found = record(tmp_path)
    assert ("failed", asked) == (found["state"], found["asked"])
    assert line in found["error"]
    assert line in said


def test_nothing_is_fetched_without_a_daemon(ctl: Ctl, tmp_path: Path) -> None:
    """Where no daemon answers, root's own cache is not filled in its place."""
    ctl.environ.update(JOB | {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path)})
    ran = ctl("slurm", "prolog", "--state", str(tmp_path / "state"))

    assert 0 == ran.code
    assert ("failed", "6") == (
        record(tmp_path / "state")["state"],
        record(tmp_path / "state")["code"],
    )
    assert "no daemon answers" in record(tmp_path / "state")["error"]


def test_it_is_given_up_in_time(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """What is not here after --timeout is told as such."""
    daemon.on("GET", "/api/v1/digest", Answer.of({"digest": DIGEST}))
    daemon.on("POST", "/api/v1/cache/pin", Answer.of({}))
    daemon.on("POST", "/api/v1/pull", SLOW)

    prolog(ctl, daemon.socket, tmp_path, "--timeout", "300ms")

    found = record(tmp_path)
    assert ("failed", "6") == (found["state"], found["code"])
    assert "not done after 0.3 seconds (--timeout)" in found["error"]


@pytest.mark.parametrize(
    "environ", [{"SLURM_JOB_COMMENT": "words"}, {"SLURM_JOB_COMMENT": "", "SLURM_JOB_ID": "8"}]
)
def test_a_job_without_an_image(ctl: Ctl, tmp_path: Path, environ: dict[str, str]) -> None:
    """It asks nobody, and leaves nothing."""
    said = prolog(ctl, tmp_path / "nobody", tmp_path / "state", **environ)

    assert ("", False) == (said, (tmp_path / "state").exists())


def test_the_epilog_ends_it(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """The pin of the job ends and its record goes, also where the daemon is away; without a record
    nobody is asked."""
    daemon.on("POST", "/api/v1/cache/unpin", Answer.of({"unpinned": []}))
    words = ("slurm", "epilog", "--state", str(tmp_path), "--socket")
    ctl.environ.update(JOB)
    for socket in (str(daemon.socket), str(tmp_path / "nobody")):
        (tmp_path / "job-7").write_text("state ready\n")
        assert 0 == ctl(*words, socket).code
        assert not (tmp_path / "job-7").exists()
    ctl(*words, str(daemon.socket))

    assert [{"name": "job:7"}] == [request.body for request in daemon.requests]


def test_stage_in_of_a_script_without_an_image(ctl: Ctl, tmp_path: Path) -> None:
    """There is nothing to do; a job or a script that is none is told."""
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH -N2\ntrue\n")

    assert 0 == ctl("slurm", "stage-in", "--job", "7", str(script)).code
    assert 64 == ctl("slurm", "stage-in", "--job", "x", str(script)).code
    assert 1 == ctl("slurm", "stage-in", "--job", "7", str(tmp_path / "none")).code
