"""Tokens that end in the middle of a push."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from typing_extensions import override

from cache.content import Descriptor
from registryd.oci.reference import Reference
from registryd.remote.upload_rules import CHUNK, MIB
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.breaking import Quirks, UploadRegistry
from tests.fakes.clock import FakeClock
from tests.fakes.http import Reply
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

CONTENT = bytes(range(256)) * 4096 * 36  # three chunks of the usual size
BLOB = Descriptor.of("application/octet-stream", CONTENT)
ANN = Login("ann", Secret("secret-word"))


class Impatient(UploadRegistry):
    """A registry that takes a token ``uses`` times, and then calls it expired."""

    uses = 10**6

    def __init__(self) -> None:
        super().__init__()
        self.used: Counter[str] = Counter()

    @override
    def _check(self, request: web.BaseRequest, name: str) -> Reply | None:
        token = request.headers.get("Authorization", "").partition(" ")[2]
        self.used[token] += 1
        if self.tokens is not None and self.used[token] > self.uses:
            self.tokens.issued.pop(token, None)
        return super()._check(request, name)


@pytest.fixture
async def registry(tokens: FakeTokenServer) -> AsyncIterator[Impatient]:
    async with Impatient().serve() as server:
        server.tokens = tokens
        yield server


async def test_token_for_one_request(
    registry: Impatient, tokens: FakeTokenServer, connect: Connect
) -> None:
    """401 to the PUT: a fresh token, and the body once more from its first byte (2.8)."""
    registry.uses = 1
    client = await connect(registry, ANN)
    opener = Opener(CONTENT)
    await client.push_blob(Reference(registry.name, "team/app"), BLOB, opener)

    assert ["POST", "POST", "PUT", "PUT"] == [seen.method for seen in registry.requests]
    assert CONTENT == registry.blob("team/app", BLOB.digest)
    assert (2, 2, 2) == (opener.opened, opener.closed, tokens.counts["basic"])


async def test_token_for_two_requests_and_many_chunks(
    registry: Impatient, tokens: FakeTokenServer, connect: Connect
) -> None:
    """401 to a chunk: that chunk again; the session and the chunks before it stay."""
    registry.uses = 2
    registry.quirks = Quirks(whole_most=MIB)
    client = await connect(registry, ANN)
    opener = Opener(CONTENT)
    await client.push_blob(Reference(registry.name, "team/app"), BLOB, opener)
    ranges = [seen.headers["Content-Range"] for seen in registry.asked("^PATCH")]

    assert CONTENT == registry.blob("team/app", BLOB.digest)
    assert 3 == len(set(ranges)) < len(ranges)
    assert 3 <= tokens.counts["basic"]
    assert opener.opened == opener.closed


async def test_tokens_of_five_minutes_are_renewed_before_they_end(
    registry: Impatient, tokens: FakeTokenServer, connect: Connect, clock: FakeClock
) -> None:
    """A long push sees no 401 after the first: tokens are renewed while they are good (2.8)."""
    registry.quirks = Quirks(whole_most=MIB)
    client = await connect(registry, ANN)

    def slowly(reply: Reply) -> None:
        clock.now += 200

    registry.change("^PATCH", slowly)
    opener = Opener(CONTENT)
    await client.push_blob(Reference(registry.name, "team/app"), BLOB, opener)
    unauthorised = [s for s in registry.requests if "Authorization" not in s.headers]

    assert CONTENT == registry.blob("team/app", BLOB.digest)
    assert 1 == len(unauthorised)
    assert 3 == len(registry.lines("^PATCH")) == -(-len(CONTENT) // CHUNK)
    assert 2 <= tokens.counts["basic"] == len({t for t in registry.used if t})
