"""``registryctl ratelimit``, and what a pull says of limits, to a scripted registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registryd.cli.commands.ratelimit import _meant
from tests.cli.conftest import Ctl, Outcome
from tests.fakes.registry import FakeRegistry


@pytest.fixture
async def hub() -> AsyncIterator[FakeRegistry]:
    """A registry that counts, as Docker Hub does."""
    async with FakeRegistry().serve() as server:
        server.add_image("team/app", "1", b"layer " * 100)
        server.header("/manifests/", "ratelimit-limit", "100;w=21600")
        server.header("/manifests/", "docker-ratelimit-source", "192.0.2.7")
        yield server


def left(hub: FakeRegistry, remaining: int) -> None:
    """Let so many requests be left."""
    hub.header("/manifests/", "ratelimit-remaining", f"{remaining};w=21600")


@pytest.fixture
def own(ctl: Ctl, tmp_path: Path) -> Ctl:
    """The program on a cache of its own."""
    ctl.environ["REGISTRYD_ROOT"] = str(tmp_path / "root")
    return ctl


async def run(ctl: Ctl, *words: str) -> Outcome:
    return await asyncio.to_thread(ctl, *words)


async def test_it_is_shown(hub: FakeRegistry, own: Ctl) -> None:
    """As a table and as JSON; a HEAD and nothing else is what it costs."""
    left(hub, 76)
    name = f"{hub.name}/team/app:1"
    table = await run(own, "ratelimit", name)
    shown = await run(own, "ratelimit", name, "--format", "json")

    lines = [line.split(maxsplit=1) for line in table.out.splitlines()]
    assert [
        ["registry:", hub.name],
        ["account:", "none (asked without a login)"],
        ["limit:", "100 in 6 hours"],
        ["remaining:", "76"],
        ["source:", "192.0.2.7"],
    ] == lines
    expected = {"registry": hub.name, "account": "", "limit": 100, "remaining": 76,
                "window_seconds": 21600, "source": "192.0.2.7"}  # fmt: skip
    assert (expected, 0) == (json.loads(shown.out), shown.code)
    assert [] == hub.lines("GET .*/manifests/")


async def test_a_registry_that_says_nothing_and_one_that_has_nothing_left(
    hub: FakeRegistry, own: Ctl
) -> None:
    """The first is no failure; the second ends as rate limited, with the table."""
    silent = await run(own, "ratelimit", f"{hub.name}/")
    left(hub, 0)
    empty = await run(own, "ratelimit", f"{hub.name}/team/app:1")

    assert (0, True) == (silent.code, "the registry does not say" in silent.out)
    assert (4, True, 1) == (empty.code, "remaining:  0" in empty.out, len(empty.words))


async def test_a_pull_warns_before_it_bites_and_says_that_it_waits(
    hub: FakeRegistry, own: Ctl
) -> None:
    """One line each on stderr; and as JSON they are events."""
    left(hub, 9)
    hub.answer("^HEAD", 429, Retry_After="1")
    pulled = await run(own, "pull", f"{hub.name}/team/app:1", "--progress", "plain")
    quiet = await run(own, "pull", f"{hub.name}/team/app:1", "-q")
    shown = await run(own, "pull", f"{hub.name}/team/app:1", "--progress", "json")
    events = [json.loads(line) for line in shown.words]

    assert (0, 0, 0) == (pulled.code, quiet.code, shown.code)
    words = "requests of 100 in 6 h"
    warned = f"warning: {hub.name} allows us, who ask without a login 9 more {words}"
    assert 1 == pulled.words.count(warned)
    assert 1 == pulled.words.count(f"{hub.name} limits us (429), waiting 1 s")
    assert [warned] == quiet.words
    assert [(100, 9)] == [
        (event["limit"], event["remaining"]) for event in events if event["event"] == "ratelimit"
    ]


async def test_a_copy_warns_too(hub: FakeRegistry, own: Ctl, tmp_path: Path) -> None:
    """What goes past the cache is counted as well."""
    left(hub, 3)
    copied = await run(own, "copy", f"{hub.name}/team/app:1", f"oci:{tmp_path / 'out'}:x", "-q")

    assert 0 == copied.code
    assert 1 == len([line for line in copied.words if "allows us" in line])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io", ("docker.io", "docker.io/ratelimitpreview/test:latest")),
        ("docker.io/", ("docker.io", "docker.io/ratelimitpreview/test:latest")),
        ("index.docker.io", ("docker.io", "docker.io/ratelimitpreview/test:latest")),
        ("ghcr.io", ("ghcr.io", "ghcr.io/")),
        ("127.0.0.1:5000", ("127.0.0.1:5000", "127.0.0.1:5000/")),
        ("localhost", ("localhost", "localhost/")),
        ("node:5000/", ("node:5000", "node:5000/")),
        ("alpine", ("docker.io", "docker.io/library/alpine:latest")),
        ("alpine:3.20", ("docker.io", "docker.io/library/alpine:3.20")),
        ("ghcr.io/a/b:1", ("ghcr.io", "ghcr.io/a/b:1")),
    ],
)
def test_a_registry_or_an_image_is_meant(text: str, expected: tuple[str, str]) -> None:
    """A name with a dot or a port and nothing behind it is a registry."""
    registry, _, asked = _meant(text)

    assert expected == (registry, asked)
