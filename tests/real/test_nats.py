"""The link to a real nats-server: it comes and goes, logs in, and says what is wrong."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.cluster import nats_link
from registryd.cluster.nats_connection import Message
from registryd.cluster.nats_link import NatsLink
from tests.fakes.certificates import Identity, make_identity
from tests.fakes.nats_accounts import Accounts
from tests.fakes.waiting import until
from tests.real.nats import HOST, NatsServer, free_ports, nats_cluster, nats_server
from tests.real.nats_nodes import config, linked

WITHIN = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of its own."""
    with nats_server(tmp_path / "nats") as running:
        yield running


def echo(link: NatsLink, subject: str = "echo") -> None:
    """Answer each message on a subject by what it says."""
    link.subscribe(subject, lambda message: link.publish(message.reply, message.content))


async def content(link: NatsLink, words: bytes, subject: str = "echo") -> bytes | None:
    """What the answer to this is."""
    answer = await link.request(subject, words, within=WITHIN)
    return answer and answer.content


async def told(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Wait until the log says so."""
    await until(lambda: words in caplog.text)


# one server


async def test_messages_go_and_come(server: NatsServer) -> None:
    """What is sent is heard by who listens, and by a second link; nobody is nobody at once."""
    async with linked(server.url) as link, linked(server.url, name="n2") as second:
        echo(link)

        assert b"one" == await content(link, b"one")
        assert b"two" == await content(second, b"two")
        async with asyncio.timeout(WITHIN):
            assert await link.request("nobody", within=60) is None
        assert server.url.removeprefix("nats://") == link.server


async def test_an_end_is_an_end(server: NatsServer) -> None:
    """A subscription that has ended hears nothing; ending it twice is ending it."""
    async with linked(server.url) as link:
        ended = link.subscribe("echo", lambda message: link.publish(message.reply, b"old"))
        assert b"old" == await content(link, b"")
        ended.end()
        ended.end()
        assert await content(link, b"") is None
        echo(link)

        assert b"new" == await content(link, b"new")


async def test_what_was_sent_is_sent_before_the_end(server: NatsServer) -> None:
    """The last words of a node that ends are heard."""
    heard: list[bytes] = []
    async with linked(server.url) as link:
        link.subscribe("last", lambda message: heard.append(message.content))
        async with linked(server.url, name="n2") as second:
            await content(second, b"", "nobody")
            for number in range(100):
                assert second.publish("last", b"%d" % number)
        await until(lambda: len(heard) == 100)

    assert [b"%d" % number for number in range(100)] == heard


async def test_a_taker_that_fails(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """An error of one who listens is logged, and neither the link nor others feel it."""

    def fail(message: Message) -> None:
        raise KeyError(message.subject)

    async with linked(server.url) as link:
        link.subscribe("echo", fail)
        echo(link)

        assert b"still" == await content(link, b"still")
        assert link.connected
    assert "a message of NATS was not taken: subject=echo" in caplog.text


async def test_a_message_that_is_too_large(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is dropped and logged; the connection goes on."""
    async with linked(server.url) as link:
        echo(link)
        link.publish("echo", bytes(2 << 20))

        assert b"small" == await content(link, b"small")
    assert "takes no such message" in caplog.text


# servers that come and go


async def test_nobody_waits_for_nats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is not there yet: the link is open at once, drops what is sent and says so;
    when the server comes, all subscriptions hold."""
    server = NatsServer(tmp_path / "nats", *free_ports(1))
    async with NatsLink.open(config(server.url), name="n1") as link:
        echo(link)
        assert not link.connected
        assert not link.publish("echo", b"lost")
        assert await link.request("echo", within=60) is None
        await told(caplog, "NATS is away")
        await asyncio.to_thread(server.start)
        try:
            await until(lambda: link.connected)

            assert b"here" == await content(link, b"here")
            away = [line for line in caplog.messages if "NATS is away" in line]
        finally:
            await asyncio.to_thread(server.end)

    assert 1 == len(away)
    assert f"127.0.0.1:{server.port}: connection refused" in away[0]


async def test_trouble_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried in vain, and whatever goes wrong each time, it is logged once."""
    answers = itertools.cycle([b"", b"no server of NATS\r\n", b"INFO {}\r\n-ERR 'no'\r\n"])
    tries = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.write(next(answers))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, HOST, 0) as listener:
        url = f"nats://{HOST}:{listener.sockets[0].getsockname()[1]}"
        async with NatsLink.open(config(url), name="n1"):
            await until(lambda: tries >= 4)

    assert 1 == len([line for line in caplog.messages if "NATS is away" in line])
    assert 1 == len(caplog.messages)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_comes_back(
    server: NatsServer, caplog: pytest.LogCaptureFixture, number: signal.Signals
) -> None:
    """Its end is seen at once, and everybody is told; so is its return, and subscriptions hold."""
    caplog.set_level("INFO", nats_link.__name__)
    changes: list[str] = []
    async with linked(server.url) as link:
        link.on_change(lambda: changes.append("up"), lambda: changes.append("down"))
        echo(link)
        before = await content(link, b"before")
        await asyncio.to_thread(server.end, number)
        await until(lambda: not link.connected)
        dropped = link.publish("echo", b"lost")
        await asyncio.to_thread(server.start)
        await until(lambda: link.connected)
        after = await content(link, b"after")

    name = f"NATS {HOST}:{server.port}"
    assert (b"before", False, b"after") == (before, dropped, after)
    assert ["up", "down", "up", "down"] == changes
    lines = [line for line in caplog.messages if line.startswith(name)]
    assert [f"{name} answers", f"{name} has gone: it has ended the connection"] == lines[:2]
    assert f"{name} answers" == lines[-1]


async def test_a_server_that_hangs(server: NatsServer) -> None:
    """One that keeps its connections and says nothing is gone within seconds; then it is back."""
    async with linked(server.url) as link:
        echo(link)
        server.send(signal.SIGSTOP)
        await until(lambda: not link.connected, limit=30)
        server.send(signal.SIGCONT)
        await until(lambda: link.connected)

        assert b"again" == await content(link, b"again")


async def test_the_next_of_three_servers(tmp_path: Path) -> None:
    """Told of one server only, a node goes on with the others when that one is killed."""
    with nats_cluster(tmp_path / "nats") as servers:
        async with linked(servers[0].url) as link, linked(servers[2].url, name="n2") as second:
            echo(link)
            first = link.server
            await asyncio.to_thread(servers[0].kill)
            await until(lambda: link.server not in ("", first))
            answer = None
            async with asyncio.timeout(WITHIN):
                while answer is None:  # servers tell one another who listens in their own time
                    answer = await content(second, b"answer")

    assert b"answer" == answer


# logins


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """A server's certificate, and its own authority."""
    return make_identity(tmp_path, "server")


def over_tls(identity: Identity, more: str = "") -> str:
    """The settings of a server that speaks TLS."""
    files = f'cert_file: "{identity.cert_file}", key_file: "{identity.key_file}"'
    return f"tls {{ {files}{more} }}"


async def test_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong login is one clear line without the password; corrected in the file, it is used."""
    file = tmp_path / "login"
    file.write_text("ann:wrong word".replace(" ", "-"))
    settings = 'authorization { user: "ann", password: "right-word" }'
    with nats_server(tmp_path / "nats", settings) as server:
        async with NatsLink.open(config(server.url, nats_credentials=file), name="n1") as link:
            await told(caplog, "it refuses our login")
            file.write_text("ann:right-word")
            await until(lambda: link.connected)
    away = [line for line in caplog.messages if "NATS is away" in line]

    assert 1 == len(away)
    assert "word" not in caplog.text


async def test_credentials(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A credentials file of one's own account is a login; one of another operator's is not."""
    accounts, file = Accounts(), tmp_path / "n1.creds"
    file.write_text(Accounts().credentials())
    with nats_server(tmp_path / "nats", accounts.settings) as server:
        async with NatsLink.open(config(server.url, nats_credentials=file), name="n1") as link:
            await told(caplog, "it refuses our login")
            file.write_text(accounts.credentials())
            await until(lambda: link.connected)
            echo(link)

            assert b"in" == await content(link, b"in")


async def test_a_file_that_is_not_there(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be read is named, and tried again: the node works on without NATS."""
    file = tmp_path / "n1.creds"
    async with NatsLink.open(config(server.url, nats_credentials=file), name="n1") as link:
        await told(caplog, f"{file}: ")
        file.write_text("ann:any")
        await until(lambda: link.connected)


async def test_tls(tmp_path: Path, identity: Identity) -> None:
    """A server whose authority is known is spoken to over TLS, with either kind of URL."""
    with nats_server(tmp_path / "nats", over_tls(identity)) as server:
        for scheme in ("tls", "nats"):
            url = server.url.replace("nats", scheme)
            async with linked(url, nats_ca_file=identity.cert_file) as link:
                echo(link)

                assert b"in" == await content(link, b"in")


async def test_certificates_on_both_sides(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that wants a certificate takes ours, and refuses a node that shows none."""
    ours = make_identity(tmp_path, "ours")
    wanted = f', verify: true, ca_file: "{ours.cert_file}"'
    pair = {"nats_cert": ours.cert_file, "nats_key": ours.key_file}
    with nats_server(tmp_path / "nats", over_tls(identity, wanted)) as server:
        url = server.url.replace("nats", "tls")
        async with linked(url, nats_ca_file=identity.cert_file, **pair):
            pass
        section = config(url, nats_ca_file=identity.cert_file)
        async with NatsLink.open(section, name="n2"):
            await told(caplog, "NATS is away")


async def test_another_s_certificate(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose certificate is of no known authority is told nothing."""
    other = make_identity(tmp_path, "other")
    with nats_server(tmp_path / "nats", over_tls(identity)) as server:
        section = config(server.url.replace("nats", "tls"), nats_ca_file=other.cert_file)
        async with NatsLink.open(section, name="n1") as link:
            await told(caplog, "its certificate: ")

            assert not link.connected


async def test_a_server_without_tls(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """Where TLS is wanted, a server that has none is told neither a password nor anything."""
    file = tmp_path / "login"
    file.write_text("ann:right-word")
    settings = 'authorization { user: "ann", password: "right-word" }'
    with nats_server(tmp_path / "nats", settings) as server:
        section = config(
            server.url.replace("nats", "tls"), nats_ca_file=identity.cert_file,
            nats_credentials=file,
        )  # fmt: skip
        async with NatsLink.open(section, name="n1") as link:
            await told(caplog, "it speaks no TLS")

            assert not link.connected


async def test_what_a_user_may_not_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A user whose rights do not reach is connected, and the log says what is refused."""
    file = tmp_path / "login"
    file.write_text("ann:word")
    rights = 'permissions: { publish: ["a.>", "_INBOX.>"], subscribe: ["a.>", "_INBOX.>"] }'
    settings = f'authorization {{ users: [ {{ user: "ann", password: "word", {rights} }} ] }}'
    with nats_server(tmp_path / "nats", settings) as server:
        async with linked(server.url, nats_credentials=file) as link:
            link.subscribe("b.x", lambda message: None)
            await told(caplog, "does not let this node do its work: permissions violation for sub")
            echo(link, "a.echo")

            assert b"in" == await content(link, b"in", "a.echo")
