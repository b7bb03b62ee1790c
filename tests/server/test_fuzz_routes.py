"""Whatever is sent to any route, the daemon answers in HTTP or closes, and goes on.

The paths of /api/v1 and what they take are read from the OpenAPI file. What is made up goes out by
raw sockets, for a client library would refuse to send most of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import registryd.server
from cache.content import Digest
from registryd.config import AccessConfig
from registryd.server.connections import Limits
from tests.fakes.dials import dials
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.server.raw import check, exchange

OPENAPI = json.loads((Path(registryd.server.__file__).parent / "openapi.json").read_text())
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ODD_METHODS = ("OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "G ET", "\x00", "")
#: A wrong request must not keep the test waiting.
HASTY = Limits(idle=0.2, body=0.2)
EMPTY = str(Digest.of(b""))
#: How the names of what else lies there begin.
ROOT_OTHERS = ("cache.db", "gateway", "lock", ".lock")
#: What may lie in a cache's root.
ROOT_FILES = {"blobs", "ingest", "index.json", "oci-layout"}
#: Replaced by the address where nobody may call.
TRIPWIRE = "TRIPWIRE"
#: Replaced by the registry that may be dialled, and by an upload that is under way.
UPSTREAM, SESSION = "UPSTREAM", "SESSION"

fuzz = settings(
    max_examples=400,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TRICKS = (
    "..", ".", "", "%2e%2e", "%2F", "..%2f..%2fetc", "%00", "%", "%zz", "\\", "//", "a//b", "~",
    "%c0%ae", "%ff", "A" * 300, "a" * 5000, ";x", "@", "a@b", "-", "_", "0", "é", "%E2%80%AE",
    "blobs", "manifests", "uploads", "tags", "list", "_catalog", "referrers", "null",
)  # fmt: skip
HOSTS = (
    UPSTREAM, TRIPWIRE, f"u:p@{TRIPWIRE}", "docker.io", "localhost", "127.0.0.1", "[::1]:80",
    "[::1", "evil.example", "EVIL.example:99999", "a.b:0", "*.io", "..",
    "http://evil.example", "%00.io",
)  # fmt: skip
DIGESTS = (
    EMPTY, "sha256:" + "0" * 64, "sha512:" + "0" * 128, "sha256:" + "0" * 63, "sha256:" + "G" * 64,
    "sha256:../../../../etc/passwd", "md5:" + "0" * 32, "sha256:", ":", "sha256%3A" + "0" * 64,
    "SHA256:" + "A" * 64, "sha256:" + "0" * 65 + "/", "sha1+b:00",
)  # fmt: skip
TAGS = ("1", "latest", ".1", "-", "a" * 128, "a" * 129, "a b", "%0d%0aX: y", "*")

texts = st.text(st.characters(codec="utf-8"), max_size=12)
words = st.one_of(
    st.sampled_from(TRICKS + HOSTS), texts.map(quote), st.just("team"), st.just("app")
)
names = st.lists(words, min_size=1, max_size=4).map("/".join)
digests = st.sampled_from(DIGESTS)
targets = st.one_of(digests, st.sampled_from(TAGS), words)
registry_paths = st.one_of(
    st.sampled_from(("/v2", "/v2/", "/v2/_catalog", "/v2//", "/v2/_x/y", "/v2?x", "/v3/", "/")),
    st.builds("/v2/{}/manifests/{}".format, names, targets),
    st.builds("/v2/{}/blobs/{}".format, names, digests),
    st.builds("/v2/{}/tags/list".format, names),
    st.builds("/v2/{}/referrers/{}".format, names, digests),
    st.builds("/v2/{}/blobs/uploads/".format, names),
    st.builds("/v2/{}/blobs/uploads/{}".format, names, words),
    st.builds("/v2/{}".format, names),
    st.just(f"/v2/localhost/team/app/blobs/uploads/{SESSION}"),
    st.builds(f"/v2/{UPSTREAM}/team/app/manifests/{{}}".format, targets),
    st.builds(f"/v2/{UPSTREAM}/team/app/blobs/{{}}".format, digests),
)
values = st.one_of(
    words,
    names,
    digests,
    st.sampled_from(("0", "-1", "1" * 30, "1e9", "0x1", "%0a", "")),
    texts.map(quote),
)
KEYS = ("ns", "n", "last", "digest", "mount", "from", "artifactType", "reference", "repository",
        "platform", "digest-algorithm", "tag", "x", "scope", "service")  # fmt: skip
queries = st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=3).map(
    lambda pairs: "?" + "&".join(f"{key}={value}" for key, value in pairs) if pairs else ""
)
HEADERS = {
    "Range": ("bytes=0-", "bytes=-1", "bytes=5-1", "bytes=0-0,2-3", "bytes=" + "1" * 40 + "-",
              "lines=1-2", "bytes=", "bytes=a-b", "bytes=" + "0-0," * 500),
    "Content-Range": ("0-9", "5-4", "-", "bytes 0-9/10", "9" * 30 + "-" + "9" * 31, "a-b"),
    "Content-Type": ("application/json", "", "a/b", "application/vnd.oci.image.manifest.v1+json",
                     "multipart/form-data", ";", "text/plain; charset=nonsense"),
    "Authorization": ("Basic", "Basic !!!", "Basic Og==", "Basic dTpw", "Bearer", "Bearer x.y.z",
                      "Bearer " + "A" * 6000, "Digest x", "Basic /w==", "\xff"),
    "Accept": ("*/*", "", "text/html", "application/json;q=x", "," * 200),
    "Content-Encoding": ("gzip", "deflate", "br", "zstd", "x"),
    "Expect": ("100-continue", "200-ok"),
    "Connection": ("close", "keep-alive", "upgrade", "x" * 100),
    "Upgrade": ("websocket", "h2c", "tcp"),
    "If-None-Match": ("*", f'"{EMPTY}"', "W/"),
    "X-Forwarded-Host": ("evil.example",),
    "Cookie": ("a=b", "=;;="),
    "X": ("y" * 9000, "y" * 20000),
}  # fmt: skip
headers = st.lists(
    st.sampled_from(sorted(HEADERS)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(HEADERS[name]))
    ),
    max_size=3,
)
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=200),
    st.sampled_from((b"{}", b"[]", b"null", b"{", b'{"a":' * 5000, b"\xff" * 100, b"1" * 70000)),
)


@asynccontextmanager
async def tripwire() -> AsyncIterator[tuple[str, list[object]]]:
    """An address, and who has connected to it."""
    called: list[object] = []

    def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}", called


class Target:
    """The node that is fuzzed, and the address where nobody may call."""

    def __init__(self, node: RunningNode, upstream: str, wire: str) -> None:
        self.node, self.upstream, self.wire = node, upstream, wire

    async def send(self, head: str, body: bytes, method: str, *, owner: bool) -> None:
        """Send one request; the answer must be proper, and the daemon must go on."""
        door = self.node.socket if owner else self.node.port
        if SESSION in head:
            head = head.replace(SESSION, await self._upload(door))
        head = head.replace(TRIPWIRE, self.wire).replace(UPSTREAM, self.upstream)
        sent = head.encode("latin-1", "replace") + body
        for reply in await exchange(door, sent, [method]):
            check(reply, method)
        (alive,) = await exchange(door, b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
        assert (200, b"ok\n") == (alive.status, alive.body)

    async def _upload(self, door: int | Path) -> str:
        """A new upload of the owner's (a stranger may not have one: the id is then a wrong one)."""
        begin = (
            "POST /v2/localhost/team/app/blobs/uploads/ HTTP/1.1\r\nHost: n\r\nContent-Length: 0"
        )
        (reply,) = await exchange(door, f"{begin}\r\n\r\n".encode())
        return reply.headers.get("docker-upload-uuid", "none")


@pytest.fixture
async def target(
    upstream: FakeRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Target]:
    """A node that may dial one registry only; afterwards, what it has done in secret."""
    upstream.add_image("team/app", "1", b"layer")
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    allowed = AccessConfig(allow=(upstream.name,))
    async with (
        tripwire() as (address, called),
        running_node(folder, registries=plain(upstream), access=allowed, limits=HASTY) as node,
    ):
        with dials() as dialled:
            yield Target(node, upstream.name, address)
        ours = {upstream.name, f"127.0.0.1:{node.port}"}

        assert (set(), []) == (dialled - ours, called)
        assert [] == [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
        check_files(tmp_path, node.root)


def check_files(folder: Path, root: Path) -> None:
    """Nothing lies outside the cache, and in it only what belongs there."""
    assert [root.parent.parent] == list(folder.iterdir())
    assert [root.parent] == list(root.parent.parent.iterdir())
    assert {"cache", "node.sock"} == {path.name for path in root.parent.iterdir()}
    strange = {path.name for path in root.iterdir()} - ROOT_FILES
    assert set() == {name for name in strange if not name.startswith(ROOT_OTHERS)}
    for path in (root / "blobs").glob("*/*"):
        digest = Digest.parse(f"{path.parent.name}:{path.name}")
        assert digest == Digest.of(path.read_bytes(), digest.algorithm)


def head(method: str, path: str, more: list[tuple[str, str]], body: bytes, *, framed: bool) -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: node", *(f"{key}: {value}" for key, value in more)]
    if framed or body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""])


@fuzz
@given(st.sampled_from(METHODS), registry_paths, queries, headers, bodies, st.booleans())
async def test_registry_routes(
    target: Target,
    method: str,
    path: str,
    query: str,
    more: list[tuple[str, str]],
    body: bytes,
    owner: bool,
) -> None:
    """/v2: any method, name, digest, query, header and body."""
    await target.send(
        head(method, path + query, more, body, framed=True), body, method, owner=owner
    )


def operations() -> list[tuple[str, str, list[str]]]:
    """Method, path and the arguments' names of each operation that the OpenAPI file has."""
    found = []
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            if method not in ("get", "post", "put", "patch", "delete", "head"):
                continue
            named = [each["name"] for each in operation.get("parameters", ())]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            found.append(
                (method.upper(), path, [*named, *body.get("schema", {}).get("properties", ())])
            )
    return found


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), words, names, digests, texts
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@fuzz
@given(st.data(), st.sampled_from(operations()), headers, st.booleans())
async def test_control_routes(
    target: Target,
    data: st.DataObject,
    operation: tuple[str, str, list[str]],
    more: list[tuple[str, str]],
    owner: bool,
) -> None:
    """/api/v1: arguments of any kind, missing, too many, and of other methods."""
    method, path, arguments = operation
    method = data.draw(st.sampled_from((method, method, method, *METHODS)))
    keys = st.sampled_from([*arguments, "x"])
    given_body: dict[str, Any] = data.draw(st.dictionaries(keys, documents, max_size=4))
    query = data.draw(
        st.lists(st.tuples(keys, values), max_size=3).map(
            lambda pairs: "?" + "&".join(f"{key}={value}" for key, value in pairs) if pairs else ""
        )
    )
    body = data.draw(st.one_of(st.just(json.dumps(given_body).encode()), bodies))
    await target.send(
        head(method, path + query, more, body, framed=True), body, method, owner=owner
    )


TARGETS = (
    "/healthz", "/readyz", "/metrics", "/token", "*", "", " ", "//", "///v2/", "/v2/%", "?", "#x",
    "http://", f"http://{TRIPWIRE}/v2/", f"http://u:p@{TRIPWIRE}/v2/x/tags/list", TRIPWIRE,
    f"//{TRIPWIRE}/v2/", "/" + "a" * 20000, "/v2/" + "a/" * 8000 + "tags/list", "/v2/\x00/",
    "/v2/\xff\xfe/", "/api/v1/", "/api/v1/nothing", "/api/../v2/", "/./v2/", "/v2/..;/",
    "\\v2\\", "/v2/ /x",
)  # fmt: skip
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1x", "http/1.1", "", "HTTP/9.9")


LINES = (b"Host: a", b"Host: b", b": x", b"A", b"A : b", b"Content-Length: -1", b" folded",
         b"Content-Length: 1e3", b"A:b\x00c", b"Transfer-Encoding: x")  # fmt: skip


@fuzz
@given(
    st.sampled_from(METHODS + ODD_METHODS),
    st.one_of(st.sampled_from(TARGETS), registry_paths),
    st.sampled_from(VERSIONS),
    st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(LINES)), max_size=4),
    st.sampled_from((b"\r\n", b"\n", b"\r", b"\r\n\r\n")),
    st.integers(0, 400),
)
async def test_what_is_hardly_http(
    target: Target, method: str, path: str, version: str, lines: list[bytes], end: bytes, extra: int
) -> None:
    """Request lines and headers that are broken in any way, and floods of headers."""
    flood = [b"X-%d: y" % number for number in range(extra if extra > 350 else 0)]
    first = f"{method} {path} {version}".replace(TRIPWIRE, target.wire).encode("latin-1", "replace")
    sent = end.join([first, b"Host: node", *lines, *flood, b"", b""])
    for reply in await exchange(target.node.port, sent, [method]):
        check(reply, method)
    (alive,) = await exchange(target.node.port, b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")

    assert 200 == alive.status
