"""A host that is not allowed is refused, however it is written, and never dialled.

Only docker.io is allowed, and it stands on a scripted registry. What is dialled is seen by the
interpreter's audit events (every look-up and connection of this process) and by a tripwire.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from registryd.config import AccessConfig, RegistryConfig
from tests.fakes.dials import dials
from tests.fakes.node import RunningNode, running_node
from tests.fakes.registry import FakeRegistry
from tests.server.raw import Reply, exchange
from tests.server.test_fuzz_routes import TRIPWIRE, tripwire

#: The tripwire and other hosts, as somebody might write them to get past a list.
HOSTS = (
    TRIPWIRE, f"u:p@{TRIPWIRE}", f"docker.io@{TRIPWIRE}", f"docker.io:x@{TRIPWIRE}",
    f"{TRIPWIRE}#docker.io", f"{TRIPWIRE}?docker.io", f"{TRIPWIRE}/docker.io",
    f"docker.io,{TRIPWIRE}",
    f"docker.io {TRIPWIRE}", f"docker.io\t{TRIPWIRE}", f"docker.io\r\nHost: {TRIPWIRE}",
    f"docker.io\x00{TRIPWIRE}", f"docker.io\\@{TRIPWIRE}", f"http://{TRIPWIRE}", f"//{TRIPWIRE}",
    f"unix://{TRIPWIRE}", "unix:///run/registryd.sock", "file:///etc/passwd",
    "127.0.0.1", "127.1:80", "2130706433:80", "0x7f.0.0.1", "0177.0.0.1", "localhost:80",
    "0.0.0.0:80",
    "[::1]", "[::1]:80", "[::ffff:127.0.0.1]:80", "[fe80::1%25lo]:80", "::1", "[::1",
    "evil.example", "docker.io.evil.example", "evil.example:443", "evildocker.io", "a.docker.io",
    "docker.io:443", "docker.io:5000", "docker.io.", "docker.io..", ".docker.io", "docker..io",
    "DOCKER.IO.", "docker.io%00", "docker%2eio.evil.example", "doc\u212aer.io", "docker\u3002io",
    "d\u043ecker.io", "docker\uff0eio", "xn--dcker-jua.io", "169.254.169.254", "metadata.internal",
    "*", "*.docker.io", "?", "..", "docker.io/..", "index.docker.io:443",
)  # fmt: skip
#: Other names and spellings of the one that is allowed.
ALLOWED = ("docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO", "DOCKER.io")


@pytest.fixture
async def guarded(upstream: FakeRegistry, tmp_path: Path) -> AsyncIterator[tuple[RunningNode, str]]:
    """A node, and the tripwire's address; afterwards nobody has been dialled but the upstream."""
    upstream.add_image("library/app", "1", b"layer")
    async with (
        tripwire() as (address, called),
        running_node(
            tmp_path,
            registries={"docker.io": RegistryConfig(endpoint=upstream.url)},
            access=AccessConfig(allow=("docker.io",)),
        ) as node,
    ):
        with dials() as dialled:
            yield node, address

        assert (set(), []) == (dialled - {upstream.name, f"127.0.0.1:{node.port}"}, called)


async def ask(node: RunningNode, target: str, body: bytes = b"") -> Reply:
    """The answer to the owner of the node, who may do the most."""
    method = "POST" if body else "GET"
    line = f"{method} {target} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(body)}\r\n\r\n"
    (reply,) = await exchange(node.socket, line.encode() + body, [method])
    return reply


def forms_of(host: str) -> list[str]:
    """The request targets that name a registry: by query, by path, by both, and as people do."""
    once, twice = quote(host, safe=""), quote(quote(host, safe=""), safe="")
    forms = [
        f"/v2/library/app/manifests/1?ns={once}",
        f"/v2/library/app/manifests/1?ns={twice}",
        f"/v2/docker.io/library/app/manifests/1?ns={once}",
        f"/v2/{once}/library/app/manifests/1",
        f"/v2/{twice}/library/app/manifests/1",
        f"/v2/{once}/library/app/tags/list",
        f"/v2/{once}/library/app/blobs/sha256:{'0' * 64}",
        f"/v2/{once}/library/app/manifests/1?ns={once}",
        f"/v2/{once}/docker.io/library/app/manifests/1",
        f"/api/v1/digest?reference={once}/library/app:1",
        f"/api/v1/tags?repository={once}/library/app",
    ]
    if host.isascii() and host.isprintable() and not set(host) & set(" #?"):
        forms += [f"/v2/{host}/library/app/manifests/1", f"/v2/library/app/manifests/1?ns={host}"]
    return forms


@pytest.mark.parametrize("host", HOSTS)
async def test_others_are_refused(guarded: tuple[RunningNode, str], host: str) -> None:
    """Each form of each spelling is a refusal that a client understands."""
    node, address = guarded
    written = host.replace(TRIPWIRE, address)
    for form in forms_of(written):
        reply = await ask(node, form)

        assert reply.status in (400, 401, 403, 404), (form, reply)
        assert reply.code in ("DENIED", "NAME_INVALID", "NAME_UNKNOWN", "UNSUPPORTED"), (
            form,
            reply,
        )


async def test_operations_are_refused(guarded: tuple[RunningNode, str]) -> None:
    """A pull or push that names another registry fails before anything is dialled."""
    node, address = guarded
    for path, arguments in (
        ("pull", {"reference": f"{address}/library/app:1"}),
        ("pull", {"reference": "evil.example/library/app:1"}),
        ("push", {"source": "library/app:1", "destination": f"{address}/library/app:1"}),
    ):
        reply = await ask(node, f"/api/v1/{path}", json.dumps(arguments).encode())
        last = json.loads(reply.body.splitlines()[-1])

        assert "failed" == last["event"], last


@pytest.mark.parametrize("host", ALLOWED)
async def test_the_allowed_one_is_dialled(guarded: tuple[RunningNode, str], host: str) -> None:
    """The same forms work for the registry that is allowed: the refusals above are no accident."""
    node, _ = guarded
    for form in (f"/v2/{host}/library/app/manifests/1", f"/v2/library/app/manifests/1?ns={host}"):
        assert 200 == (await ask(node, form)).status


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "Forwarded", "Location", "Via"])
async def test_headers_name_no_registry(guarded: tuple[RunningNode, str], header: str) -> None:
    """No header decides which registry is meant."""
    node, address = guarded
    hosts = "" if header == "Host" else "Host: node\r\n"
    line = f"GET /v2/library/app/manifests/1 HTTP/1.1\r\n{hosts}{header}: {address}\r\n\r\n"
    (reply,) = await exchange(node.socket, line.encode())

    assert 200 == reply.status


@pytest.mark.parametrize("place", ["file:///etc/passwd", "unix:///x", "ftp://a/b", "http://", "//"])
async def test_a_registry_that_redirects_to_what_is_no_web_address(
    guarded: tuple[RunningNode, str], upstream: FakeRegistry, place: str
) -> None:
    """It is an answer that cannot be used, and nothing is opened."""
    node, _ = guarded
    upstream.answer("GET .*/blobs/", 307, times=None, Location=place)
    reply = await ask(node, f"/v2/docker.io/library/app/blobs/sha256:{'0' * 64}")

    assert reply.status in (404, 503), reply
