"""The words of the log: one line an event, whatever comes in."""

import json
import logging
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.server.logline import logfmt
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry, digest_of, make_image
from tests.fakes.waiting import until
from tests.server.content import CONTENT, DIGEST, SIZE

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(0, 1e6),
    st.text(st.characters(), max_size=60),
    st.text(' ="\\\n\r\x1b\x7f\u202eé', max_size=20),
)


def read(line: str) -> tuple[str, dict[str, str]]:
    """Event and pairs of a line, as a reader of logfmt takes them."""
    event, _, rest = line.partition(" ")
    pairs, at = {}, 0
    while at < len(rest):
        match = _PAIR.match(rest, at)
        assert match is not None, rest[at:]
        key, value = match.groups()
        pairs[key] = json.loads(value) if value.startswith('"') else value
        at = match.end()
    return event, pairs


@given(st.dictionaries(st.sampled_from(["ref", "cause", "path", "bytes"]), values))
def test_a_reader_gets_back_what_was_written(fields: dict[str, Any]) -> None:
    """Every value comes back, what is empty is left out, and no value breaks its line."""
    line = logfmt("request:", **fields)

    said = {
        key: f"{value:.6f}" if isinstance(value, float) else str(value)
        for key, value in fields.items()
        if value is not None and value is not False and value != ""
    }
    assert ("request:", said) == read(line)
    assert re.fullmatch(r"[ -~]+", line)


def test_a_forged_pair_stays_a_value() -> None:
    """What looks like another pair, or like another line, is part of its value."""
    line = logfmt("request:", path="/x status=200", cause='no\n"way"', status=404)

    assert 'request: path="/x status=200" cause="no\\n\\"way\\"" status=404' == line


Lines = Callable[[int], Awaitable[list[dict[str, str]]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The request lines, read, once there are so many: a line comes after its answer."""
    caplog.set_level(logging.INFO, "registryd.server.app")

    def found() -> list[str]:
        said = [record.getMessage() for record in caplog.records]
        return [line for line in said if line.startswith("request: ")]

    async def wait(count: int) -> list[dict[str, str]]:
        await until(lambda: len(found()) >= count)
        return [read(line)[1] for line in found()]

    return wait


async def test_a_cold_and_a_warm_blob(
    owner: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry, path: str, lines: Lines
) -> None:
    """The line says what was meant, where it came from, how much, how long and for whom."""
    for _ in range(2):
        async with owner.get(path) as answer:
            assert await answer.read() == CONTENT
    cold, warm = await lines(2)

    assert {
        "method": "GET", "path": path, "status": "200", "bytes": str(SIZE), "source": "upstream",
        "host": upstream.name, "ref": f"{upstream.name}/team/app", "digest": str(DIGEST),
        "user": f"uid:{os.getuid()}", "listener": f"unix:{node.socket}",
    } == {key: value for key, value in cold.items() if "seconds" not in key}  # fmt: skip
    assert 0 < float(cold["first_byte_seconds"]) <= float(cold["seconds"])
    assert ("cache", str(SIZE)) == (warm["source"], warm["bytes"])


async def test_a_manifest_by_tcp(
    stranger: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry, lines: Lines
) -> None:
    """A manifest's line has its tag and the digest that it meant; HEAD gives no bytes."""
    upstream.add_image("team/app", "1", b"layer")
    raw = make_image(b"layer")
    for method in ("GET", "HEAD"):
        async with stranger.request(method, f"/v2/{upstream.name}/team/app/manifests/1") as answer:
            await answer.read()
    said = [
        tuple(line.get(key) for key in ("ref", "digest", "source", "bytes", "user", "peer"))
        for line in await lines(2)
    ]

    name, digest = f"{upstream.name}/team/app:1", digest_of(raw)
    assert [
        (name, digest, "upstream", str(len(raw)), "anonymous", "127.0.0.1"),
        (name, digest, "cache", "0", "anonymous", "127.0.0.1"),
    ] == said


async def test_a_refusal_says_why_and_hides_what_is_secret(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str, lines: Lines
) -> None:
    """What failed is a warning with its cause; a query's values stay out of the log."""
    upstream.answer("blobs", 404, times=None)
    async with owner.get(path, params={"token": "s3cret"}) as answer:
        await answer.read()
    (line,) = await lines(1)

    assert ("404", "0", True) == (line["status"], line["bytes"], str(DIGEST) in line["cause"])
    assert "s3cret" not in str(line)


async def test_a_broken_off_client_has_its_bytes_counted(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str, lines: Lines
) -> None:
    """What was given of a blob that could not be finished is in its line."""
    upstream.change("blobs", lambda reply: setattr(reply, "body", b"x" + reply.body[1:]))
    with pytest.raises(aiohttp.ClientPayloadError):
        async with owner.get(path) as answer:
            await answer.read()
    (line,) = await lines(1)

    assert 0 < int(line["bytes"]) < SIZE
    assert "upstream" == line["source"]


async def test_no_line_is_made_that_nobody_reads(
    owner: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Above INFO, what went well leaves no line."""
    caplog.set_level(logging.WARNING, "registryd.server.app")
    async with owner.get(path) as answer:
        await answer.read()

    assert [] == [r for r in caplog.records if r.getMessage().startswith("request:")]
