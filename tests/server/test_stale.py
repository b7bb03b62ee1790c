"""What clients are given and told while a registry does not give its word on a tag."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from registryd.config import AccessConfig, RegistryConfig
from registryd.server.warnings import warning_header
from tests.fakes.http import Reply
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry, digest_of, make_image
from tests.fakes.upstream import Upstream

CONFIG = b'{"os":"linux","architecture":"amd64"}'
#: How much of an image the node has: all of it, its manifest alone, nothing.
HELD = ("whole", "half", "none")


class Moody(Upstream):
    """A registry that can take requests and never answer them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.silence: asyncio.Event | None = None

    def fall_silent(self) -> None:
        self.silence = asyncio.Event()
        self.gates.append(self.silence)

    @override
    async def respond(self, request: web.BaseRequest) -> Reply:
        if self.silence is not None:
            await self.silence.wait()
        return await super().respond(request)


@dataclass(frozen=True)
class Seen:
    """One answer."""

    status: int
    body: bytes
    warning: str | None

    @property
    def kind(self) -> int | str:
        """The status, or the words of the warning for an answer that has one."""
        if self.warning is None or self.status != 200:
            return self.status
        match = re.fullmatch(r'299 - "127\.0\.0\.1:\d+ (.*): .* is given as it was \d+s ago"',
                             self.warning)  # fmt: skip
        assert match, self.warning
        return match[1]


def layer(held: str) -> bytes:
    return f"the layer of {held} ".encode() * 1000


def path_of(upstream: FakeRegistry, held: str, *, ns: bool = False) -> str:
    if ns:
        return f"/v2/team/{held}/manifests/1?ns={upstream.name}"
    return f"/v2/{upstream.name}/team/{held}/manifests/1"


async def ask(client: aiohttp.ClientSession, path: str, method: str = "GET") -> Seen:
    async with client.request(method, path) as answer:
        return Seen(answer.status, await answer.read(), answer.headers.get("Warning"))


async def fill(client: aiohttp.ClientSession, upstream: FakeRegistry) -> None:
    """Let the registry have three images, and the node as much of each as its name says."""
    for held in HELD:
        upstream.add_image(f"team/{held}", "1", layer(held))
    for held in HELD[:2]:
        assert 200 == (await ask(client, path_of(upstream, held))).status
    for content in (CONFIG, layer("whole")):
        path = f"/v2/{upstream.name}/team/whole/blobs/{digest_of(content)}"
        assert 200 == (await ask(client, path)).status


@pytest.fixture
async def upstream() -> AsyncIterator[Moody]:
    async with Moody().serve() as server:
        yield server


@pytest.fixture
async def node(upstream: Moody, tmp_path: Path) -> AsyncIterator[RunningNode]:
    """A node that believes no tag for any time, and has what the images' names say."""
    async with running_node(tmp_path, registries=plain(upstream, tag_ttl=0.0)) as running:
        async with running.stranger() as client:
            await fill(client, upstream)
        yield running


def says(status: int) -> Callable[[Moody], None]:
    headers = {"Retry_After": "999999"} if status == 429 else {}
    return lambda upstream: upstream.answer("/v2/.", status, times=None, **headers)


def forget(upstream: Moody) -> None:
    for held in HELD:
        del upstream.repositories[f"team/{held}"].manifests["1"]


MATRIX: dict[str, tuple[Callable[[Moody], None], list[int | str]]] = {
    "429": (says(429), ["wants no more requests for now", 503, 503]),
    "500": (says(500), ["fails", 503, 503]),
    "502": (says(502), ["fails", 503, 503]),
    "503": (says(503), ["fails", 503, 503]),
    "dropped": (lambda u: u.drop("/v2/.", times=None), ["cannot be reached", 503, 503]),
    "silent": (Moody.fall_silent, ["cannot be reached", 503, 503]),
    "401": (says(401), ["refuses access", 403, 403]),
    "403": (says(403), ["refuses access", 403, 403]),
    "404": (forget, [404, 404, 404]),
}


@pytest.mark.parametrize("kind", MATRIX)
async def test_the_matrix(node: RunningNode, upstream: Moody, kind: str) -> None:
    """Every trouble, by what is held: the image with a warning, or what the registry's answer is
    to a runtime. GET and HEAD say the same."""
    trouble, expected = MATRIX[kind]
    trouble(upstream)
    ns = kind == "silent"  # only who can ask elsewhere is told within its budget
    async with node.owner() as client:
        gets = [await ask(client, path_of(upstream, held, ns=ns)) for held in HELD]
        heads = [await ask(client, path_of(upstream, held, ns=ns), "HEAD") for held in HELD]

    assert expected == [seen.kind for seen in gets]
    assert expected == [seen.kind for seen in heads]
    assert [b""] * 3 == [seen.body for seen in heads]
    if gets[0].status == 200:
        assert make_image(layer("whole")) == gets[0].body
    assert all(seen.warning is None for seen in gets[1:])


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://registry.invalid"])
async def test_nobody_is_there(upstream: Moody, tmp_path: Path, endpoint: str) -> None:
    """A port that nobody listens on, or a name that does not resolve: it cannot be reached."""
    async with running_node(tmp_path, registries=plain(upstream)) as node, node.owner() as client:
        await fill(client, upstream)
    away = {upstream.name: RegistryConfig(endpoint=endpoint, tag_ttl=0.0)}
    async with running_node(tmp_path, registries=away) as node, node.owner() as client:
        seen = [await ask(client, path_of(upstream, held)) for held in HELD]

    assert ["cannot be reached", 503, 503] == [each.kind for each in seen]


async def test_missing_tags_can_be_served(upstream: Moody, tmp_path: Path) -> None:
    """With missing_tags = "serve" a whole image outlives its tag, for those too whose grant has
    run out, as long as the registry lets them see its tags."""
    settings = plain(upstream, tag_ttl=0.0, missing_tags="serve")
    access = AccessConfig(grant_ttl=0.0)
    async with (
        running_node(tmp_path, registries=settings, access=access) as node,
        node.stranger() as client,
    ):
        await fill(client, upstream)
        forget(upstream)
        seen = [await ask(client, path_of(upstream, held)) for held in HELD]
        name = f"{upstream.name}/team/whole:1"
        async with client.get("/api/v1/digest", params={"reference": name}) as answer:
            digest: Any = await answer.json()
        upstream.answer("tags/list", 403, times=None)
        refused = await ask(client, path_of(upstream, "whole"))

    assert ("does not have it any more", "missing") == (seen[0].kind, digest["stale"])
    assert not {200} & {each.status for each in (*seen[1:], refused)}


@pytest.mark.parametrize(("grant_ttl", "given"), [(3600.0, True), (0.0, False)])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_ends_it_for_who_has_no_grant(
    upstream: Moody, tmp_path: Path, status: int, grant_ttl: float, given: bool
) -> None:
    """When a registry refuses access, who was let in lately reads what is held; nobody else."""
    access = AccessConfig(grant_ttl=grant_ttl)
    async with (
        running_node(tmp_path, registries=plain(upstream, tag_ttl=0.0), access=access) as node,
        node.stranger() as client,
    ):
        await fill(client, upstream)
        says(status)(upstream)
        seen = await ask(client, path_of(upstream, "whole"))

    assert ("refuses access" if given else False) == (seen.kind if given else seen.status == 200)


async def test_what_was_public_outlives_a_silent_registry(upstream: Moody, tmp_path: Path) -> None:
    """A runtime whose grant has run out gets a public image that is held, within its budget."""
    access = AccessConfig(grant_ttl=0.0)
    async with (
        running_node(tmp_path, registries=plain(upstream, tag_ttl=0.0), access=access) as node,
        node.stranger() as client,
    ):
        await fill(client, upstream)
        upstream.fall_silent()
        seen = await ask(client, path_of(upstream, "whole", ns=True))

    assert "cannot be reached" == seen.kind


async def test_a_private_image_does_not(tmp_path: Path) -> None:
    """One whose own grant has run out is not let in because the registry says nothing."""
    ann = {"Authorization": aiohttp.encode_basic_auth("ann", "word")}
    access = AccessConfig(grant_ttl=0.0)
    async with (
        Moody(users={"ann": "word"}).serve() as guarded,
        running_node(tmp_path, registries=plain(guarded, tag_ttl=0.0), access=access) as node,
        aiohttp.ClientSession(node.url, headers=ann) as client,
    ):
        await fill(client, guarded)
        guarded.fall_silent()
        seen = await ask(client, path_of(guarded, "whole", ns=True))

    assert (503, None) == (seen.status, seen.warning)


async def test_an_offline_registry(upstream: Moody, tmp_path: Path) -> None:
    """Nothing is sent to it; what is held whole is given and said to be so, the rest is 503."""
    async with running_node(tmp_path, registries=plain(upstream)) as node, node.owner() as client:
        await fill(client, upstream)
    sent = len(upstream.requests)
    async with (
        running_node(tmp_path, registries=plain(upstream, offline=True)) as node,
        node.owner() as client,
    ):
        seen = [await ask(client, path_of(upstream, held)) for held in HELD]
        digest = digest_of(make_image(layer("half")))
        missing = f"/v2/{upstream.name}/team/half/blobs/{digest_of(layer('half'))}"
        exact = f"/v2/{upstream.name}/team/half/manifests/{digest}"
        others = [await ask(client, path) for path in (exact, missing)]

    assert ["is offline by configuration", 503, 503] == [each.kind for each in seen]
    assert [200, 503] == [each.kind for each in others]
    assert b"offline = true" in seen[2].body
    assert sent == len(upstream.requests)


# /api/v1


async def test_the_control_api_says_so_too(node: RunningNode, upstream: Moody) -> None:
    """digest has it in its result, manifest in its header, pull among its events; each is counted
    with its cause."""
    says(503)(upstream)
    name = f"{upstream.name}/team/whole:1"
    async with node.owner() as client:
        async with client.get("/api/v1/digest", params={"reference": name}) as answer:
            digest: Any = await answer.json()
        async with client.get("/api/v1/manifest", params={"reference": name}) as answer:
            header, raw = answer.headers["Warning"], await answer.read()
        async with client.post("/api/v1/pull", json={"reference": name}) as answer:
            events = [json.loads(line) for line in (await answer.text()).splitlines()]
        await ask(client, path_of(upstream, "whole"))
        async with client.get("/metrics") as answer:
            metrics = await answer.text()
    said = f"{upstream.name} fails: {name} is given as it was "
    (warning,) = [event for event in events if event["event"] == "warning"]

    assert ("server_error", True) == (digest["stale"], digest["warning"].startswith(said))
    assert header.startswith(f'299 - "{said}')
    assert make_image(layer("whole")) == raw
    assert ("server_error", name) == (warning["cause"], warning["reference"])
    assert warning["message"].startswith(said) and warning["age"] >= 0
    assert "done" == events[-1]["event"]
    assert 'registryd_stale_answers_total{cause="server_error"} 4.0' in metrics


async def test_a_pull_is_told_a_clear_no(node: RunningNode, upstream: Moody) -> None:
    """Whoever asks for a pull wants what the registry has: its refusal is passed on."""
    name = f"{upstream.name}/team/whole:1"
    ends = {}
    for status in (401, 403, 404):
        upstream.faults.clear()
        says(status)(upstream)
        async with (
            node.owner() as client,
            client.post("/api/v1/pull", json={"reference": name}) as answer,
        ):
            last = json.loads((await answer.text()).splitlines()[-1])
            ends[status] = (last["event"], last.get("exit_code"))

    assert {401: ("failed", 3), 403: ("failed", 3), 404: ("failed", 2)} == ends


# the header


@given(st.text(max_size=5000))
def test_a_warning_is_one_quoted_line(text: str) -> None:
    """Whatever is in the text, the header is 299, no agent, and one quoted string of plain ASCII
    that says it, and is short enough."""
    header = warning_header(text)

    assert re.fullmatch(r'299 - "(?:[^"\\]|\\["\\])*"', header)
    assert header.isascii() and header.isprintable() and len(header) < 4096


def test_a_warning_says_what_it_says() -> None:
    """Quotes and backslashes are escaped, line ends are spaces."""
    assert '299 - "a \\"b\\" \\\\ c?"' == warning_header('a "b"\r\n\\ cé')
