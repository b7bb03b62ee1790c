"""Story: another version of the daemon on the cache of the one before, upwards and downwards.

The older versions are those of the history, run with today's dependencies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cache.schema import MIGRATIONS
from tests.packages.older import BEFORE_PINS, WITH_PINS, older_code
from tests.real.registry import RealRegistry
from tests.real.runtimes import attempt, plain_environ, server
from tests.real.stories import UP, Ctl, answers, blobs_of, toml

NAME = f"{UP}/lib/image:1"
#: Schema of each.
OLDER = {BEFORE_PINS: 4, WITH_PINS: 5}


@pytest.fixture
def node(tmp_path: Path, upstream: RealRegistry) -> Ctl:
    """A node whose upstream has one image, before any daemon has run on it."""
    sections = {
        "cache": {"root": tmp_path / "root"},
        "daemon": {"socket": tmp_path / "d.sock"},
        "registries": {UP: {"endpoint": upstream.url, "tag_ttl": "1h"}},
    }
    text = toml(sections) + '[[daemon.listen]]\naddress = "127.0.0.1:0"\n'
    (tmp_path / "config.toml").write_text(text)
    return Ctl(tmp_path / "home", {"REGISTRYD_SOCKET": str(tmp_path / "d.sock")})


def command(folder: Path) -> list[str]:
    """The daemon; which one is said by PYTHONPATH."""
    return [sys.executable, "-P", "-m", "registryd.daemon", "--config", f"{folder}/config.toml"]


def environ(folder: Path, code: Path | None) -> dict[str, str]:
    """The environment of a version of the daemon; None: today's."""
    own = {"CONTAINERS_REGISTRIES_CONF": "/dev/null", **plain_environ(folder / "home")}
    return own | ({} if code is None else {"PYTHONPATH": str(code)})


@contextmanager
def running(folder: Path, code: Path | None = None) -> Iterator[None]:
    """A version of the daemon on the node."""
    with server(command(folder), folder, environ(folder, code)):
        yield


def names(node: Ctl) -> dict[str, tuple[str, bool]]:
    """The images of the node: digest, and whether it is pinned."""
    return {
        f"{each['name']}:{each['tag']}": (each["digest"], bool(each["pinned"]))
        for each in node.json("images")["images"]
    }


def asked(upstream: RealRegistry) -> list[tuple[str, str, str]]:
    """What the upstream was asked for by GET: content, not what a tag means now."""
    return [each for each in answers(upstream) if each[0] == "GET" and "seen=" not in each[1]]


@pytest.mark.parametrize("commit", OLDER, ids=["before-pins", "with-pins"])
def test_up_and_down_again(commit: str, node: Ctl, upstream: RealRegistry, tmp_path: Path) -> None:
    """Today's daemon has the images and pins of an older one and fetches nothing again. The older
    one refuses the newer database in one line; without ``cache.db`` it has the images again."""
    code, schema = older_code(tmp_path / "code", commit), OLDER[commit]
    pins = schema > 4
    with running(tmp_path, code):
        node.ok("pull", NAME)
        if pins:
            node.ok("cache", "pin", NAME)
        before = names(node)
    fetched = asked(upstream)

    with running(tmp_path):
        node.ok("pull", NAME)

        assert {NAME} == before.keys()
        assert before == names(node)
        assert pins == before[NAME][1]
    refused = (
        attempt(command(tmp_path), environ(tmp_path, code)) if len(MIGRATIONS) > schema else None
    )
    for file in tmp_path.glob("root/cache.db*"):
        file.unlink()
    with running(tmp_path, code):
        after = names(node)

    if refused is not None:
        said = f"has schema {len(MIGRATIONS)}, this registryd knows {schema}: upgrade it"
        assert (1, 1) == (refused.code, len(refused.err.splitlines()))
        assert said in refused.err
    assert {NAME: (before[NAME][0], False)} == after
    assert 4 == len(blobs_of(tmp_path / "root"))
    assert fetched == asked(upstream)
