"""Mirrors of a registry: their order, what each is asked for, and when the next one is asked."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from cache.content import Descriptor, Digest
from registryd.config import MirrorConfig
from registryd.oci.errors import (
    ManifestUnknown,
    RegistryError,
)
from registryd.oci.manifest import parse
from registryd.oci.referrers import entry_of, with_entry
from registryd.ports import TransportError
from tests.fakes.bodies import Opener
from tests.fakes.clock import FakeClock
from tests.fakes.http import reply
from tests.fakes.referrers import make_artifact
from tests.fakes.registry import FakeRegistry, digest_of
from tests.remote.reached import BLOB, LAYER


async def test_order(reach: Any, hosts: list[FakeRegistry]) -> None:
    """The first mirror answers for all; who sent a blob is told by its name."""
    reached = await reach()
    content, source = await reached.blob()

    assert LAYER == content
    assert hosts[0].name == source
    assert await reached.tag()
    assert [2, 0, 0] == reached.asked


@pytest.mark.parametrize(
    ("mirror", "asked"),
    [
        ({"capabilities": ("pull",)}, {"tag": 0, "digest": 1, "blob": 1}),
        ({"capabilities": ("resolve",)}, {"tag": 1, "digest": 0, "blob": 0}),
        ({"pull": "digest"}, {"tag": 0, "digest": 1, "blob": 1}),
        ({"pull": "tag"}, {"tag": 1, "digest": 0, "blob": 1}),
    ],
)
async def test_capabilities(
    reach: Any, hosts: list[FakeRegistry], mirror: dict[str, Any], asked: dict[str, int]
) -> None:
    """A host is asked for what it serves; lists of tags and pushes are the registry's own."""
    reached = await reach(MirrorConfig(hosts[0].url, **mirror))
    client, app = reached.client, reached.app
    found = {}
    manifest = await client.resolve(app.with_tag("1"))
    found["tag"] = reached.asked[0]
    await client.fetch_manifest(app.with_digest(manifest.digest))
    found["digest"] = reached.asked[0]
    await reached.blob()
    found["blob"] = reached.asked[0]

    assert asked == found
    assert ["1"] == await client.tags(app)
    await client.ping()
    await client.push_blob(app, described(b"new"), Opener(b"new"))
    assert await client.has_blob(app, BLOB)
    assert 0 == reached.asked[0]


def described(content: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.parse(digest_of(content)), len(content))


async def test_push_goes_to_who_takes_pushes(reach: Any, hosts: list[FakeRegistry]) -> None:
    """To the first host with that capability and to no other, its session's URL included."""
    both = MirrorConfig(hosts[0].url), MirrorConfig(hosts[1].url, capabilities=("push",))
    reached = await reach(*both)
    await reached.client.push_blob(reached.app, described(b"new"), Opener(b"new"))

    assert [0, 2, 0] == reached.asked
    assert b"new" in hosts[1].repositories["team/app"].blobs.values()


async def test_what_is_changed_is_read_where_it_is_written(
    reach: Any, hosts: list[FakeRegistry]
) -> None:
    """A mirror may have what a name meant before, and lists of referrers as they were: a push is
    measured by what stands where it goes, and what others have put into a list stays."""
    mirror, _, registry = hosts
    usual = ("pull", "resolve", "referrers")
    reached = await reach(MirrorConfig(mirror.url, capabilities=usual))
    client, app = reached.client, reached.app
    registry.add_image("team/app", "1", b"newer")
    registry.traits = registry.traits.but("lists", referrers=False)
    subject = registry.repositories["team/app"].manifests["1"][1]
    older, newer, third = (
        parse(make_artifact(subject, "text/sbom", nr=str(number))) for number in range(3)
    )
    tag = f"sha256-{Digest.of(subject).hex}"
    kept = with_entry(with_entry(None, entry_of(older)), entry_of(newer))
    registry.add_manifest("team/app", tag, kept.raw, kept.media_type)
    mirror.add_manifest("team/app", tag, with_entry(None, entry_of(older)).raw, kept.media_type)
    found = await client.standing(app.with_tag("1"))
    await client.note_subject(app, third)
    listed = json.loads(registry.repositories["team/app"].manifests[tag][1])["manifests"]

    assert Digest.of(subject) == found.digest
    assert [str(each.digest) for each in (older, newer, third)] == [
        entry["digest"] for entry in listed
    ]
    assert 0 == reached.asked[0]


# --- the next host -----------------------------------------------------------------------------

DOWN = ("drop", 401, 403, 404, 429, 500, 503, "page")


def fail(server: FakeRegistry, how: str | int) -> None:
    """Have a server fail each request so."""
    if how == "drop":
        server.drop(".", None)
    elif how == "page":
        server.answer(".", 200, "<html>log in", times=None, Content_Type="text/html")
    else:
        server.answer(".", int(how), times=None)


@pytest.mark.parametrize("how", DOWN)
async def test_always(
    reach: Any, hosts: list[FakeRegistry], clock: FakeClock, how: str | int
) -> None:
    """Whatever a mirror says or does not say, the next host is asked, and nobody waits."""
    fail(hosts[0], how)
    reached = await reach()

    assert (LAYER, hosts[1].name) == await reached.blob()
    assert await reached.tag()
    assert [] == clock.slept


@pytest.mark.parametrize(
    ("fallback", "how", "goes_on"),
    [
        ("not-found", 404, True),
        ("not-found", 403, False),
        ("not-found", 500, False),
        ("not-found", "drop", False),
        ("never", 404, False),
        ("never", "drop", False),
    ],
)
async def test_other_policies(
    reach: Any, hosts: list[FakeRegistry], fallback: str, how: str | int, goes_on: bool
) -> None:
    """By "not-found" only 404 leads on; by "never" the first word is final, and waited for."""
    fail(hosts[0], how)
    reached = await reach(fallback=fallback)
    if goes_on:
        assert (LAYER, hosts[1].name) == await reached.blob()
    else:
        with pytest.raises((RegistryError, TransportError)):
            await reached.blob()
    first, others, _ = reached.asked

    assert goes_on == bool(others)
    assert (how in (500, "drop")) == (first >= 5)


async def test_all_fail(reach: Any, hosts: list[FakeRegistry], clock: FakeClock) -> None:
    """The last host is asked with patience; the line says what became of the others."""
    for server in hosts:
        fail(server, 500)
    reached = await reach()
    with pytest.raises(RegistryError, match="500"):
        await reached.tag()

    assert [1, 1, 5] == reached.asked
    hosts[2].faults.clear()
    fail(hosts[2], "drop")
    reached = await reach()
    with pytest.raises(TransportError, match=r"before that: 127.*status 500; 127.*status 500"):
        await reached.blob()


async def test_absent_everywhere(reach: Any, hosts: list[FakeRegistry]) -> None:
    """What no host has is not there: the registry's own word, exit code 2."""
    for server in hosts:
        fail(server, 404)
    reached = await reach()
    with pytest.raises(ManifestUnknown):
        await reached.tag()

    assert [1, 1, 1] == reached.asked


async def test_not_before_is_a_hosts_own(
    reach: Any, hosts: list[FakeRegistry], clock: FakeClock
) -> None:
    """A mirror that wants to be left alone is, without a request and without a wait."""
    hosts[0].answer(".", 429, times=1, Retry_After="100")
    reached = await reach()
    for _ in range(3):
        await reached.blob()
    clock.now += 101
    await reached.blob()

    assert [2, 3, 0] == reached.asked
    assert [] == clock.slept


async def test_breaker(reach: Any, hosts: list[FakeRegistry], clock: FakeClock) -> None:
    """After three failures a mirror is left alone, then one try decides for longer."""
    fail(hosts[0], 502)
    reached = await reach()
    counts = []
    for wait in (0, 0, 0, 0, 5, 0, 5, 5):
        clock.now += wait
        await reached.blob()
        counts.append(reached.asked[0])
    alone = reached.remotes.left_alone()
    hosts[0].faults.clear()
    clock.now += 20
    sources = [(await reached.blob())[1] for _ in range(2)]

    assert [1, 1, 1, 0, 1, 0, 0, 1] == counts
    assert [(hosts[0].name, 20.0)] == [each[:2] for each in alone]
    assert [hosts[0].name] * 2 == sources
    assert [] == reached.remotes.left_alone()


async def test_a_silent_mirror(reach: Any, clock: FakeClock) -> None:
    """One that says nothing until nobody waits comes last for that, and is left alone in the end;
    who leaves at once says nothing of it."""
    came = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        reached = await reach(MirrorConfig(f"http://{name}"))

        async def give_up(seconds: float) -> None:
            came.clear()

            async def leave() -> None:
                await came.wait()
                clock.now += seconds
                limit.reschedule(0)

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    await asyncio.gather(reached.tag(), leave())

        for _ in range(3):
            await give_up(0.1)
        await give_up(3)
        tag = await reached.tag()
        for _ in range(2):
            clock.now += 100
            await give_up(3)

    assert tag
    assert [(name, 5.0)] == [each[:2] for each in reached.remotes.left_alone()]


async def test_all_left_alone(reach: Any, hosts: list[FakeRegistry]) -> None:
    """Where every mirror is left alone, the registry itself is asked all the same."""
    for server in hosts[:2]:
        fail(server, 500)
    reached = await reach()
    for _ in range(3):
        await reached.blob()
    assert reached.asked

    assert (LAYER, hosts[2].name) == await reached.blob()
    assert [0, 0, 1] == reached.asked


# --- content -----------------------------------------------------------------------------------


async def test_break_in_the_middle(reach: Any, hosts: list[FakeRegistry]) -> None:
    """Who asks again at the byte reached is answered by the neighbour."""
    hosts[0].cut("/blobs/", 1000)
    reached = await reach()
    came = b""
    with pytest.raises(TransportError):
        async with (
            reached.client.fetch_blob(reached.app, BLOB) as body,
            aclosing(aiter(body)) as it,
        ):
            async for piece in it:
                came += piece
    rest, source = await reached.blob(len(came))

    assert LAYER == came + rest
    assert hosts[1].name == source
    assert [1, 1, 0] == reached.asked


async def test_wrong_manifest(reach: Any, hosts: list[FakeRegistry]) -> None:
    """A manifest that does not match its digest comes from the next host, now and later."""
    reached = await reach()
    digest = Digest.parse(await reached.tag())
    exact = reached.app.with_digest(digest)
    other = reply(200, b'{"schemaVersion": 2}', Content_Type="application/json")
    hosts[0].change("GET .*/manifests/", lambda answer: setattr(answer, "body", other.body))
    assert reached.asked
    for _ in range(2):
        assert digest == (await reached.client.fetch_manifest(exact)).digest

    assert [1, 2, 0] == reached.asked


async def test_ranges_are_a_hosts_own(reach: Any, hosts: list[FakeRegistry]) -> None:
    """A mirror that gets ranges wrong gives whole blobs; of others ranges are asked still."""
    hosts[0].answer("/blobs/", 501, times=1)
    reached = await reach()
    async with reached.client.fetch_blob(reached.app, BLOB, 100) as body:
        assert (0, hosts[0].name) == (body.start, body.source)
    fail(hosts[0], 404)
    async with reached.client.fetch_blob(reached.app, BLOB, 100) as body:
        assert (100, hosts[1].name) == (body.start, body.source)


async def test_too_many_requests_is_no_illness(reach: Any, hosts: list[FakeRegistry]) -> None:
    """A host that wants fewer requests is asked again when it may be; its breaker stays shut."""
    hosts[0].answer(".", 429, times=3)
    reached = await reach()
    sources = [(await reached.blob())[1] for _ in range(4)]

    assert [hosts[1].name] * 3 + [hosts[0].name] == sources


async def test_a_host_that_is_left_alone_is_not_the_last_resort(
    reach: Any, hosts: list[FakeRegistry]
) -> None:
    """Where only such are behind it, the registry is asked with patience."""
    reached = await reach(MirrorConfig(hosts[0].url))
    hosts[0].cut("/blobs/", 1000)
    with pytest.raises(TransportError):
        await reached.blob()
    fail(hosts[0], 500)
    for _ in range(3):
        await reached.tag()
    assert reached.asked
    hosts[2].answer("/blobs/", 500, times=3)

    assert (LAYER, hosts[2].name) == await reached.blob()
    assert [0, 0, 4] == reached.asked


async def test_the_first_word_is_final_of_bodies_too(reach: Any, hosts: list[FakeRegistry]) -> None:
    """By "never" what breaks off goes on at the same host, and wrong bytes are its last word."""
    reached = await reach(fallback="never")
    hosts[0].cut("/blobs/", 1000)
    with pytest.raises(TransportError):
        await reached.blob()
    _, source = await reached.blob(1000)

    assert hosts[0].name == source
    assert not reached.client.distrust(reached.app, BLOB)
