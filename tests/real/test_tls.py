"""TLS listeners of a real daemon: right bytes, right certificates, and nobody who has none."""

from __future__ import annotations

import asyncio
import random
import signal
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization

from tests.fakes.certificates import Identity, make_identity
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.real.daemon import ROOT, DaemonProcess, started
from tests.real.runtimes import attempt, need, plain_environ
from tests.real.stories import UP

MIB = 1 << 20
CONTENT = random.Random(5).randbytes(6 * MIB + 12345)
RANGES = [
    ("", slice(None)),
    ("bytes=0-99", slice(0, 100)),
    ("bytes=1000000-", slice(1000000, None)),
    ("bytes=-5", slice(-5, None)),
    ("bytes=2097151-2097152", slice(2097151, 2097153)),
]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        yield server


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """What the daemon shows."""
    return make_identity(tmp_path, "node")


def write_config(
    folder: Path, identity: Identity, upstream: FakeRegistry, client_ca: Path | None = None
) -> Path:
    """A daemon with one TLS listener; the upstream is called ``up.test``."""
    path = folder / "d.toml"
    clients = f'client_ca = "{client_ca}"\n' if client_ca else ""
    path.write_text(
        f'[daemon]\nsocket = "{folder / "d.sock"}"\n'
        f'[[daemon.listen]]\naddress = "127.0.0.1:0"\n'
        f'tls_cert = "{identity.cert_file}"\ntls_key = "{identity.key_file}"\n{clients}'
        f'[cache]\nroot = "{folder / "cache"}"\n'
        f'[registries."{UP}"]\nendpoint = "{upstream.url}"\n'
    )
    return path


def port_of(daemon: DaemonProcess) -> int:
    return int(daemon.url.rpartition(":")[2])


@asynccontextmanager
async def client_of(
    daemon: DaemonProcess, trusted: Identity, own: Identity | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that trusts one certificate, with one of its own or none."""
    context = ssl.create_default_context(cafile=str(trusted.cert_file))
    if own is not None:
        context.load_cert_chain(own.cert_file, own.key_file)
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{port_of(daemon)}",
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:
        yield session


async def fetch(client: aiohttp.ClientSession, path: str, wanted: str = "") -> tuple[int, bytes]:
    """Status and body."""
    async with client.get(path, headers={"Range": wanted} if wanted else {}) as answer:
        return answer.status, await answer.read()


async def test_held_and_arriving_blobs(
    tmp_path: Path, identity: Identity, upstream: FakeRegistry
) -> None:
    """Whole blobs and ranges are right, while they arrive and afterwards."""
    digest = upstream.add_blob("team/app", CONTENT)
    path = f"/v2/{UP}/team/app/blobs/{digest}"
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, at=3 * MIB)
    async with (
        started(write_config(tmp_path, identity, upstream)) as daemon,
        client_of(daemon, identity) as client,
    ):
        async with client.get(path) as whole:
            first = await whole.content.readexactly(MIB)
            arriving = [asyncio.create_task(fetch(client, path, wanted)) for wanted, _ in RANGES]
            early = await fetch(client, path, "bytes=10-19")
            gate.set()
            came = first + await whole.read()
        along = await asyncio.gather(*arriving)
        held = [await fetch(client, path, wanted) for wanted, _ in RANGES]

    right = [(206 if wanted else 200, CONTENT[part]) for wanted, part in RANGES]
    assert (True, (206, CONTENT[10:20])) == (came == CONTENT, early)
    assert [True] * len(RANGES) == [a == b for a, b in zip(along, right, strict=True)]
    assert [True] * len(RANGES) == [a == b for a, b in zip(held, right, strict=True)]


async def test_a_client_that_leaves_in_the_middle(
    tmp_path: Path, identity: Identity, upstream: FakeRegistry
) -> None:
    """It ends its own answer, without a traceback; the next client gets the whole."""
    digest = upstream.add_blob("team/app", CONTENT)
    path = f"/v2/{UP}/team/app/blobs/{digest}"
    async with (
        started(write_config(tmp_path, identity, upstream)) as daemon,
        client_of(daemon, identity) as client,
    ):
        await fetch(client, path)
        async with client.get(path) as leaving:
            await leaving.content.readexactly(1000)
            assert leaving.connection is not None and leaving.connection.transport is not None
            leaving.connection.transport.abort()
        status, body = await fetch(client, path)

    assert (200, True) == (status, body == CONTENT)
    assert not any("Traceback" in line for line in daemon.lines)


async def test_curl_and_skopeo(tmp_path: Path, identity: Identity, upstream: FakeRegistry) -> None:
    """Other programs pull with the authority's certificate, and not without."""
    digest = upstream.add_image("team/app", "1", CONTENT, b"second")
    certs = tmp_path / "certs"
    certs.mkdir()
    (certs / "ca.crt").write_bytes(identity.cert_file.read_bytes())
    async with started(write_config(tmp_path, identity, upstream)) as daemon:
        image = f"docker://localhost:{port_of(daemon)}/{UP}/team/app:1"
        url = f"https://localhost:{port_of(daemon)}/v2/{UP}/team/app/manifests/{digest}"
        words = [
            [need("curl"), "-sSf", "--cacert", str(certs / "ca.crt"), url],
            [need("curl"), "-sSf", url],
            [need("skopeo"), "--insecure-policy", "copy", "--src-cert-dir", str(certs), image,
             f"dir:{tmp_path / 'image'}"],
        ]  # fmt: skip
        ran = [
            await asyncio.to_thread(attempt, each, plain_environ(tmp_path / "home"))
            for each in words
        ]

    assert [0, 60, 0] == [each.code for each in ran], ran
    assert CONTENT in [path.read_bytes() for path in (tmp_path / "image").iterdir()]


async def test_a_client_needs_a_certificate(
    tmp_path: Path, identity: Identity, upstream: FakeRegistry
) -> None:
    """With client_ca, who has no certificate of it gets no answer; and the daemon goes on."""
    friend, other = make_identity(tmp_path, "friend"), make_identity(tmp_path, "other")
    config = write_config(tmp_path, identity, upstream, friend.cert_file)
    refused = 0
    async with started(config) as daemon:
        for own in (None, other):
            async with client_of(daemon, identity, own) as client:
                try:
                    await fetch(client, "/healthz")
                except aiohttp.ClientError:
                    refused += 1
        async with client_of(daemon, identity, friend) as client:
            answer = await fetch(client, "/healthz")

    assert (2, (200, b"ok\n")) == (refused, answer)
    assert not any("Traceback" in line or "path=" in line for line in daemon.lines[:-2])


async def test_a_client_over_tls_is_a_stranger(tmp_path: Path, identity: Identity) -> None:
    """The daemon's own login serves its owner; who comes over TLS gets in with a login of theirs,
    by the token that the daemon's realm (which is reached over TLS as well) gives for it."""
    async with Upstream(users={"ann": "right"}).serve() as guarded:
        digest = guarded.add_image("team/app", "1", b"private")
        password = tmp_path / "password"
        password.write_text("right\n")
        config = write_config(tmp_path, identity, guarded)
        with config.open("a") as more:
            more.write(f'username = "ann"\npassword_file = "{password}"\n')
        path = f"/v2/{UP}/team/app/manifests/{digest}"
        async with started(config) as daemon:
            async with daemon.client() as owner:
                statuses = [(await fetch(owner, path))[0]]
            async with client_of(daemon, identity) as client:
                async with client.get(path) as refused:
                    statuses.append(refused.status)
                    challenge = refused.headers["WWW-Authenticate"]
                realm = challenge.partition('realm="')[2].partition('"')[0]
                for word in ("wrong", "right"):
                    login = b64encode(f"ann:{word}".encode()).decode()
                    basic = {"Authorization": f"Basic {login}"}
                    query = {"scope": f"repository:{UP}/team/app:pull", "service": "registryd"}
                    async with client.get(realm, params=query, headers=basic) as given:
                        token = (await given.json()).get("token", "none")
                    bearer = {"Authorization": f"Bearer {token}"}
                    async with client.get(path, headers=bearer) as answer:
                        statuses.append(answer.status)

    assert (200, 401, 200) == (statuses[0], statuses[1], statuses[3])
    assert statuses[2] in (401, 403)
    assert realm.startswith(f"https://127.0.0.1:{port_of(daemon)}/")


async def test_what_is_no_tls_is_closed(
    tmp_path: Path, identity: Identity, upstream: FakeRegistry
) -> None:
    """Plain HTTP and versions of TLS that are broken get nothing; the next client is served."""
    async with started(write_config(tmp_path, identity, upstream)) as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(daemon))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
        plain = await reader.read()
        writer.close()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port_of(daemon), ssl=old)
        async with client_of(daemon, identity) as client:
            answer = await fetch(client, "/healthz")

    assert (False, (200, b"ok\n")) == (b"HTTP" in plain, answer)
    assert not any("Traceback" in line for line in daemon.lines)


async def test_a_new_certificate_is_taken_over(
    tmp_path: Path, identity: Identity, upstream: FakeRegistry
) -> None:
    """After SIGHUP new connections see it and old ones go on; a wrong file changes nothing."""
    config = write_config(tmp_path, identity, upstream)
    async with started(config) as daemon, client_of(daemon, identity) as old:
        await fetch(old, "/healthz")
        renewed = make_identity(tmp_path, "node")  # in the same files
        daemon.send(signal.SIGHUP)
        await daemon.said("reloaded")
        shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port_of(daemon)))
        async with client_of(daemon, renewed) as new:
            answers = [await fetch(old, "/healthz"), await fetch(new, "/healthz")]
        identity.key_file.write_text("no key")
        daemon.send(signal.SIGHUP)
        refused = await daemon.said("reload refused")
        async with client_of(daemon, renewed) as new:
            answers.append(await fetch(new, "/healthz"))

    assert renewed.cert_file.read_text().strip() == shown.strip()
    assert [(200, b"ok\n")] * 3 == answers
    assert "daemon.listen[0].tls_key: " in refused and "holds no private key" in refused


def without_key(identity: Identity) -> None:
    identity.key_file.unlink()


def without_certificate(identity: Identity) -> None:
    identity.cert_file.write_text("no certificate")


def with_another_key(identity: Identity) -> None:
    other = make_identity(identity.key_file.parent, "other")
    identity.key_file.write_bytes(other.key_file.read_bytes())


def with_an_encrypted_key(identity: Identity) -> None:
    identity.key_file.write_bytes(
        identity.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_key, "daemon.listen[0].tls_key: {key} cannot be read: No such file"),
        (without_certificate, "daemon.listen[0].tls_cert: {cert} holds no certificate"),
        (with_another_key, "daemon.listen[0].tls_key: {key} is not the key of {cert}"),
        (with_an_encrypted_key, "daemon.listen[0].tls_key: {key} is encrypted"),
    ],
)
async def test_files_that_cannot_be_used(
    tmp_path: Path, identity: Identity, upstream: FakeRegistry, spoil: object, said: str
) -> None:
    """The start and --check find them: one line with the key's path, and exit code 64."""
    config = write_config(tmp_path, identity, upstream)
    assert callable(spoil)
    spoil(identity)
    async with started(config, ready=False) as daemon:
        code = await daemon.ended()
    command = [sys.executable, "-m", "registryd.daemon", "--check", "--config", str(config)]
    checked = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    expected = said.format(key=identity.key_file, cert=identity.cert_file)

    assert (64, 1, 64) == (code, len(daemon.lines), checked.returncode)
    assert daemon.lines[0].startswith(f"registryd: {expected}")
    assert daemon.lines[0] == checked.stderr.strip()
    assert not (tmp_path / "d.sock").exists()
