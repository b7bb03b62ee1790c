"""What is sent under a limit: the same bytes, in their time."""

from __future__ import annotations

import asyncio
import random
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from registryd.rates import LEAST_BURST
from registryd.server.kernel import open_sender
from tests.fakes.certificates import make_identity
from tests.fakes.rated import Jumps

MIB = 1 << 20
LIMIT = 2 * MIB
CONTENT = random.Random(5).randbytes(4 * MIB + 1)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_is_sent_keeps_to_the_limit(tmp_path: Path, encrypted: bool) -> None:
    """By the kernel and through a transport that encrypts; a part of a file as well."""
    time, sent = Jumps(), list[int]()
    rates, begin = time.rates(up=LIMIT), 1000
    path = tmp_path / "blob"
    path.write_bytes(b"x" * begin + CONTENT + b"x")

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(CONTENT)
        await response.prepare(request)
        assert request.transport is not None
        with rates.to_peers("a") as pace, ThreadPoolExecutor(1) as workers, path.open("rb") as file:
            async with open_sender(request.transport, response, workers, pace) as sender:
                await sender.send(file.fileno(), begin, MIB)
                await sender.send(file.fileno(), begin + MIB, len(CONTENT) - MIB)
                sent.append(sender.sent)
        return response

    identity = await asyncio.to_thread(make_identity, tmp_path)
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(
        runner, "127.0.0.1", 0, ssl_context=identity.server_context() if encrypted else None
    )
    await site.start()
    host, port = runner.addresses[0]
    trusting = ssl.create_default_context(cafile=identity.cert_file)
    async with ClientSession() as client:
        url = f"{'https' if encrypted else 'http'}://{host}:{port}/"
        async with client.get(url, ssl=trusting) as answered:
            came = await answered.read()
    await runner.cleanup()

    assert CONTENT == came
    assert [len(CONTENT)] == sent
    assert time.now == pytest.approx((len(CONTENT) - LEAST_BURST) / LIMIT, abs=0.1)
