"""Which registries are dialled, how they are reached, and what is said when they are not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

import pytest

from cache.content import Descriptor
from registryd.config import RegistryConfig, TransferConfig
from registryd.oci.errors import ConfigInvalid, Denied, RateLimited, RegistryError
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.remotes import is_allowed
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.certificates import make_identity
from tests.fakes.clock import FakeClock
from tests.fakes.http import FakeServer, Reply, reply
from tests.fakes.registry import FakeRegistry
from tests.remote.conftest import Connect, OpenRemotes


@pytest.mark.parametrize(
    ("registry", "patterns", "allowed"),
    [
        ("ghcr.io", ["*"], True),
        ("ghcr.io", ["docker.io", "ghcr.io"], True),
        ("ghcr.io", [], False),
        ("ghcr.io:5000", ["ghcr.io"], False),
        ("a.example.org", ["*.example.org"], True),
        ("a.b.example.org", ["*.example.org"], True),
        ("example.org", ["*.example.org"], False),
        ("badexample.org", ["*.example.org"], False),
    ],
)
def test_allow_list(registry: str, patterns: list[str], allowed: bool) -> None:
    """All, a name, or what is below a domain; nothing else (DESIGN 6.6)."""
    assert allowed == is_allowed(registry, patterns)


async def test_denied_registry_is_not_dialled(open_remotes: OpenRemotes) -> None:
    """One line that says what to change; exit code 3."""
    remotes = await open_remotes(allow=("docker.io",))
    with pytest.raises(Denied, match=r"registry ghcr\.io is not allowed here; add it") as caught:
        remotes.remote("ghcr.io")

    assert 3 == caught.value.exit_code


async def test_own_registry_has_no_remote(open_remotes: OpenRemotes) -> None:
    """localhost is this node; localhost with a port is a registry like any other."""
    remotes = await open_remotes()
    with pytest.raises(Denied, match="this node's own registry"):
        remotes.remote("localhost")

    assert "localhost:5000" == remotes.remote("localhost:5000").registry


async def test_one_client_for_a_registry_and_login(open_remotes: OpenRemotes) -> None:
    """Connections and tokens are kept between calls, and apart between logins."""
    remotes = await open_remotes()
    ann, bob = (Login(user, Secret("x")) for user in ("ann", "bob"))

    assert remotes.remote("ghcr.io") is remotes.remote("ghcr.io")
    assert remotes.remote("ghcr.io", ann) is remotes.remote("ghcr.io", Login("ann", Secret("x")))
    assert remotes.remote("ghcr.io", ann) is not remotes.remote("ghcr.io", bob)


async def test_many_logins_share_connections(
    registry: FakeRegistry, open_remotes: OpenRemotes
) -> None:
    """Clients are forgotten beyond their number, and work on all the same."""
    remotes = await open_remotes({registry.name: RegistryConfig(plain_http=True)})
    first = remotes.remote(registry.name)
    for number in range(600):
        remotes.remote(registry.name, Login(f"user{number}", Secret("x")))
    await first.ping()

    assert first is not remotes.remote(registry.name)


async def test_loopback_without_tls(registry: FakeRegistry, open_remotes: OpenRemotes) -> None:
    """TLS is tried first, then plain HTTP, and that is remembered."""
    remotes = await open_remotes()
    for login in (None, Login("ann", Secret("x"))):
        await remotes.remote(registry.name, login).ping()
        await remotes.remote(registry.name, login).ping()

    assert ["GET /v2/"] * 4 == registry.lines()


async def test_loopback_that_closes_the_handshake(open_remotes: OpenRemotes) -> None:
    """Some servers answer a TLS handshake by closing."""

    calls = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        head = await reader.read(3)
        if head == b"GET":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await (await open_remotes()).remote(name).ping()

    assert 2 == calls


async def test_tls(open_remotes: OpenRemotes, tmp_path: Path) -> None:
    """A certificate of its own is trusted by ca_file, or not at all; never plain HTTP instead."""
    identity = make_identity(tmp_path)
    async with FakeRegistry().serve(ssl_context=identity.server_context()) as registry:
        await (
            (await open_remotes({registry.name: RegistryConfig(ca_file=identity.cert_file)}))
            .remote(registry.name)
            .ping()
        )
        await (
            (await open_remotes({registry.name: RegistryConfig(tls_verify=False)}))
            .remote(registry.name)
            .ping()
        )
        with pytest.raises(TransportError, match=f"cannot trust {registry.name}: .*ca_file"):
            await (await open_remotes()).remote(registry.name).ping()

        assert 2 == len(registry.requests)


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_bad_ca_file(open_remotes: OpenRemotes, tmp_path: Path, content: str | None) -> None:
    """A file that cannot be used is named."""
    file = tmp_path / "ca.crt"
    if content:
        file.write_text(content)
    remotes = await open_remotes({"127.0.0.1:1": RegistryConfig(ca_file=file)})
    with pytest.raises(ConfigInvalid, match=str(file)):
        await remotes.remote("127.0.0.1:1").ping()


async def test_refused_connection(open_remotes: OpenRemotes, clock: FakeClock) -> None:
    """Which host, and why; exit code 6; after a few tries with waits between them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{probe.getsockname()[1]}"
        remotes = await open_remotes()
        with pytest.raises(TransportError) as caught:
            await remotes.remote(name).ping()

    assert f"cannot reach {name}: connection refused" == str(caught.value)
    assert 6 == caught.value.exit_code
    assert [0.125, 0.25, 0.5, 1.0] == clock.slept


async def test_name_that_does_not_resolve(open_remotes: OpenRemotes) -> None:
    """A wrong name is told as such."""
    remotes = await open_remotes(transfer=TransferConfig(attempts=1))
    with pytest.raises(TransportError, match=r"cannot reach no\.invalid: its name does not"):
        await remotes.remote("no.invalid").ping()


async def test_dropped_connections_are_tried_again(
    registry: FakeRegistry, connect: Connect
) -> None:
    """A connection that is closed without an answer costs an attempt."""
    registry.drop("", times=3)
    client = await connect(registry)
    await client.ping()
    registry.drop("", times=None)
    with pytest.raises(TransportError, match=f"{registry.name} broke off"):
        await client.ping()


async def test_not_before_is_shared(
    registry: FakeRegistry, connect: Connect, clock: FakeClock
) -> None:
    """One 429 makes every task wait, and no attempt is lost (2.2)."""
    registry.add_image("team/app", "1.0")
    image = Reference(registry.name, "team/app", "1.0")
    registry.answer("^HEAD", 429, Retry_After="30")
    client = await connect(registry, transfer=TransferConfig(attempts=1))
    began = clock.now
    await client.resolve(image)

    assert clock.now >= began + 30
    assert 2 == len(registry.requests)

    registry.answer("^HEAD", 429, times=None, Retry_After="100000")
    with pytest.raises(RateLimited):
        await client.resolve(image)
    asked = len(registry.requests)
    with pytest.raises(
        RateLimited, match=f"{registry.name} wants no requests for another 100000 s"
    ):
        await client.resolve(image)

    assert 4 == RateLimited.exit_code
    assert asked == len(registry.requests)

    registry.faults.clear()
    clock.now += 61
    await client.resolve(image)


async def test_wait_asked_of_a_push_holds_others_back(
    registry: FakeRegistry, connect: Connect, clock: FakeClock
) -> None:
    """A 429 to what is not repeated by itself is kept by everyone all the same."""
    registry.add_image("team/app", "1.0")
    image = Reference(registry.name, "team/app", "1.0")
    client = await connect(registry, transfer=TransferConfig(attempts=1))
    registry.answer("^POST", 429, times=None, Retry_After="299")
    began = clock.now
    with pytest.raises(RateLimited):
        await client.push_blob(image, Descriptor.of("x", b"x"), Opener(b"x"))
    await client.resolve(image)

    assert clock.now >= began + 299


async def test_4b_21_socket_is_told_which_registry_is_meant(
    open_remotes: OpenRemotes, tmp_path: Path
) -> None:
    """Through a unix socket every request says which registry is meant."""
    path = tmp_path / "s"
    server = FakeRegistry()
    async with server.serve(path=str(path)):
        server.add_image("team/app", "1.0", b"layer")
        server.page = 1
        server.add_image("team/app", "2.0", b"layer")
        config = RegistryConfig(endpoint=f"unix://{path}")
        client = (await open_remotes({"ghcr.io": config})).remote("ghcr.io")
        image = Reference("ghcr.io", "team/app", "1.0")
        await client.resolve(image)

        assert ["1.0", "2.0"] == await client.tags(image)
        assert [] == [line for line in server.lines() if "ns=ghcr.io" not in line]
        assert 3 == len(server.requests)


async def test_missing_socket_is_named(open_remotes: OpenRemotes, tmp_path: Path) -> None:
    """The line names the path."""
    config = RegistryConfig(endpoint=f"unix://{tmp_path}/none")
    remotes = await open_remotes({"ghcr.io": config}, transfer=TransferConfig(attempts=1))
    with pytest.raises(TransportError, match=f"cannot reach {tmp_path}/none: no such file"):
        await remotes.remote("ghcr.io").ping()


async def test_password_file(
    registry: FakeRegistry, open_remotes: OpenRemotes, tmp_path: Path
) -> None:
    """The configuration's own login, from its file; what is wrong names the file."""
    registry.users = {"ann": "secret-word"}
    file = tmp_path / "password"
    file.write_text("secret-word\n")
    config = RegistryConfig(plain_http=True, username="ann", password_file=file)
    await (await open_remotes({registry.name: config})).remote(registry.name).ping()
    file.write_text("wrong-word")
    with pytest.raises(RegistryError, match=f"user 'ann' from {file}") as caught:
        await (await open_remotes({registry.name: config})).remote(registry.name).ping()

    assert "wrong-word" not in str(caught.value)


async def test_no_secret_in_any_log(
    guarded: FakeRegistry, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """At the lowest level, with every kind of secret on its way (DESIGN 6.4)."""
    guarded.add_image("team/app", "1.0")
    image = Reference(guarded.name, "team/app", "1.0")
    with caplog.at_level(logging.DEBUG, "registryd"):
        client = await connect(guarded, Login("ann", Secret("secret-word")))
        guarded.answer("^HEAD", 500)
        await client.resolve(image)
        client = await connect(guarded, Login("ann", identity_token=Secret("refresh-word")))
        with pytest.raises(RegistryError):
            await client.resolve(image)
    words = caplog.text + "".join(str(vars(record)) for record in caplog.records)

    assert caplog.records
    for secret in ("secret-word", "refresh-word", "token-1", "Basic ", "Bearer "):
        assert secret not in words


async def test_proxy(open_remotes: OpenRemotes) -> None:
    """A proxy that is configured is used; its password is in no error."""

    class Proxy(FakeServer):
        async def respond(self, request: object) -> Reply:
            return reply(200, "{}", Content_Type="application/json")

    async with Proxy().serve() as proxy:
        proxies = {"http": f"http://joe:proxy-word@{proxy.name}"}
        config = {"far.example": RegistryConfig(plain_http=True)}
        remotes = await open_remotes(config, proxies=proxies)
        await remotes.remote("far.example").ping()

        assert ["GET http://far.example/v2/"] == proxy.lines()
        assert "Proxy-Authorization" in proxy.requests[0].headers
    remotes = await open_remotes(config, proxies=proxies, transfer=TransferConfig(attempts=1))
    with pytest.raises(TransportError, match=r"far\.example: the proxy is not there") as caught:
        await remotes.remote("far.example").ping()

    assert "proxy-word" not in str(caught.value)
