"""Story: a runtime that could go elsewhere does not wait long for a registry that we cannot use.

The patience is that of a daemon whose configuration says nothing about it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from tests.fakes.registry import FakeRegistry
from tests.real.images import Images
from tests.real.runtimes import NOBODY, attempt, plain_environ
from tests.real.scripted import REPOSITORY, TAG, scripted
from tests.real.stories import Daemon, daemon, in_thread

#: Seconds until a daemon must have said that it cannot help.
LIMIT = 5


def in_trouble(registry: FakeRegistry) -> None:
    """Its own errors."""
    registry.answer("/v2/", 503, times=None)


def limited(registry: FakeRegistry) -> None:
    """It has heard enough of this address, which need not be that of the runtime's login."""
    registry.answer("/v2/", 429, times=None)


def limited_for_a_minute(registry: FakeRegistry) -> None:
    """The same, and it says for how long."""
    registry.answer("/v2/", 429, times=None, Retry_After="60")


def silent(registry: FakeRegistry) -> None:
    """It answers with a head, and then sends nothing."""
    registry.stall("/v2/", asyncio.Event(), times=None)


@contextmanager
def black_hole() -> Iterator[str]:
    """An address of which no packet comes back: a listener whose queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


FAULTS: tuple[Callable[[FakeRegistry], None], ...] = (
    in_trouble,
    limited,
    limited_for_a_minute,
    silent,
)


@pytest.fixture(scope="module")
def answers(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The status that a manifest of each registry is answered with; all are asked at once."""
    folder = tmp_path_factory.mktemp("patience")
    with ExitStack() as stack:
        endpoints = {"refused": NOBODY, "black_hole": stack.enter_context(black_hole())}
        for fault in FAULTS:
            registry = scripted(images)
            stack.enter_context(in_thread(registry))
            fault(registry)
            endpoints[fault.__name__] = registry.name
        sections = {host(name): {"endpoint": f"http://{at}"} for name, at in endpoints.items()}
        node = stack.enter_context(daemon(folder, {"registries": sections}))
        with ThreadPoolExecutor(len(endpoints)) as pool:
            found = list(pool.map(lambda name: ask(node, name), endpoints))
        node.process.kill()
        yield dict(zip(endpoints, found, strict=True))


def host(name: str) -> str:
    """The registry in this state, as images are called."""
    return f"{name.replace('_', '-')}.test"


def ask(node: Daemon, name: str) -> str:
    """The status of a manifest's answer."""
    words = ["curl", "--silent", "--max-time", str(LIMIT), "--output", "/dev/null"]
    words += ["--write-out", "%{http_code}", "--unix-socket", str(node.socket)]
    url = f"http://node/v2/{host(name)}/{REPOSITORY}/manifests/{TAG}"
    return attempt([*words, url], plain_environ(node.folder / name)).out


@pytest.mark.parametrize(
    "state",
    [
        "refused",
        "in_trouble",
        "limited",
        "limited_for_a_minute",
        "silent",
        "black_hole",
    ],
)
def test_the_daemon_declines_in_time(answers: dict[str, str], state: str) -> None:
    """Within seconds it says 503, and the runtime asks the next of its hosts."""

    assert "503" == answers[state]
