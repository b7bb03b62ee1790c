"""Warnings of a daemon, as a command tells them."""

from __future__ import annotations

from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon

ALPINE = "docker.io/library/alpine:3.20"
DIGEST = "sha256:" + "a" * 64


def test_digest_tells_a_warning(through: Ctl, daemon: FakeDaemon) -> None:
    """What is held without its registry's word is data all the same, with one line on stderr."""
    result = {"reference": ALPINE, "digest": DIGEST, "stale": "offline", "warning": "it is old"}
    daemon.on("GET", "/api/v1/digest", Answer.of(result))

    assert through("digest", "alpine:3.20") == Outcome(
        0, f"{DIGEST}\n".encode(), "warning: it is old\n"
    )
