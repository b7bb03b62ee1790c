"""Proxies, waits and limits: rules 21 and 22 of what registries do (4b), and that all are named."""

from __future__ import annotations

import asyncio
import re
from email.utils import formatdate
from pathlib import Path

import pytest

from cache.content import Descriptor
from registryd.config import RegistryConfig, TransferConfig
from registryd.oci.errors import BadAnswer, RateLimited, RegistryError
from registryd.oci.manifest import MANIFEST_LIMIT
from registryd.oci.reference import Reference
from registryd.oci.wire_errors import ERROR_BODY_LIMIT
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.clock import FakeClock
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.remote.conftest import Connect, OpenRemotes

BLOB = Descriptor.of("application/octet-stream", b"content")


def test_every_rule_is_named() -> None:
    """Each rule of 4b, 1 to 22, has a test here whose name begins with its number."""
    sources = (path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = {int(found) for text in sources for found in re.findall(r"def test_4b_(\d\d)_", text)}

    assert set(range(1, 23)) == named


# 21: after 1.1.1.


async def test_4b_21_a_proxy_on_a_socket_gets_no_login(
    open_remotes: OpenRemotes, tmp_path: Path
) -> None:
    """?ns= with every request, pushes too; what we have for the registry is not sent unasked."""
    server = FakeRegistry()
    async with server.serve(path=str(tmp_path / "s")):
        config = RegistryConfig(endpoint=f"unix://{tmp_path / 's'}")
        login = Login("ann", Secret("secret-word"))
        client = (await open_remotes({"ghcr.io": config})).remote("ghcr.io", login)
        image = Reference("ghcr.io", "team/app", "1.0")
        await client.push_blob(image, BLOB, Opener(b"content"))
        async with client.fetch_blob(image, BLOB.digest) as body:
            assert b"content" == b"".join([piece async for piece in body])

        assert 3 == len(server.requests)
        for seen in server.requests:
            assert 1 == seen.path.count("ns=ghcr.io")
            assert "Authorization" not in seen.headers


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
async def test_4b_21_retry_after(
    registry: FakeRegistry,
    image: Reference,
    connect: Connect,
    clock: FakeClock,
    status: int,
    dated: bool,
) -> None:
    """Seconds or a date: we wait as long as we are asked to, and no request goes out before."""
    began = clock.now
    asked = formatdate(began + 90, usegmt=True) if dated else "90"
    registry.throttle("^HEAD", asked, status)
    client = await connect(registry)
    await client.resolve(image)

    assert 2 == len(registry.requests)
    assert began + 89 <= clock.now <= began + 120


async def test_4b_21_longer_than_anyone_waits(
    registry: FakeRegistry, image: Reference, connect: Connect, clock: FakeClock
) -> None:
    """A wait of hours is told at once, to whoever comes next too, and nobody asks."""
    registry.throttle("^HEAD", "21600", times=None)
    client = await connect(registry)
    for _ in range(2):
        with pytest.raises(RateLimited, match=r"says 429|another \d+ s"):
            await client.resolve(image)

    assert 1 == len(registry.requests)
    assert [] == clock.slept


@pytest.mark.parametrize("cancelled", [200, 202, 204, 404, 405, 500])
async def test_4b_21_cancelling_an_upload(
    registry: FakeRegistry, connect: Connect, cancelled: int
) -> None:
    """A session that failed is given back, and what is told is the failure, however that goes."""
    registry.traits = registry.traits.but("uploads", cancelled=cancelled)
    registry.answer("^PUT", 400, '{"errors":[{"code":"SIZE_INVALID","message":"the reason"}]}')
    client = await connect(registry)
    with pytest.raises(RegistryError, match="the reason"):
        await client.push_blob(Reference(registry.name, "team/app"), BLOB, Opener(b"content"))

    assert ["POST", "PUT", "DELETE"] == [seen.method for seen in registry.requests]


# 22: limits.


async def test_4b_22_an_error_has_64_kib(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """No more of an error body is waited for than is read: the rest may never come."""
    gate = asyncio.Event()

    def endless(reply: Reply) -> None:
        reply.status, reply.length, reply.body = 404, -1, b"x" * 4 * ERROR_BODY_LIMIT
        reply.gate, reply.gate_at = gate, 2 * ERROR_BODY_LIMIT

    registry.change("^GET", endless)
    client = await connect(registry, transfer=TransferConfig(stall_timeout=5.0))
    with pytest.raises(RegistryError) as caught:
        await client.fetch_manifest(image)
    gate.set()

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("announced", [True, False])
async def test_4b_22_a_manifest_without_end(
    registry: FakeRegistry, image: Reference, connect: Connect, announced: bool
) -> None:
    """4 MiB are read of a manifest, whether its length is announced or not."""
    gate = asyncio.Event()

    def endless(reply: Reply) -> None:
        reply.body = b" " * (MANIFEST_LIMIT + 2**20)
        reply.gate, reply.gate_at = gate, MANIFEST_LIMIT + 2**16
        reply.length = None if announced else -1

    registry.change("^GET", endless)
    client = await connect(registry, transfer=TransferConfig(stall_timeout=5.0))
    with pytest.raises(BadAnswer, match=f"more than {MANIFEST_LIMIT} bytes"):
        await client.fetch_manifest(image)
    gate.set()


@pytest.mark.parametrize("length", [8000, 30_000])
async def test_4b_22_long_headers(
    registry: FakeRegistry, image: Reference, connect: Connect, length: int
) -> None:
    """Presigned URLs and tokens are longer than the 8190 bytes that are usual."""
    registry.answer("^HEAD", 307, Location=f"{registry.url}/moved?sig={'x' * length}")
    registry.answer("^HEAD /moved", 405)
    client = await connect(registry)
    await client.resolve(image)

    assert length < len(registry.asked("^HEAD /moved")[0].path)
