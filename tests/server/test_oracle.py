"""What a stranger is told, and how often a registry is asked for it, does not depend on what is
cached: neither "yes, but not yours" nor a quicker answer gives away what others have pulled.

Two nodes stand in front of one registry. Ann has pulled her private image through the first; the
second is empty. The same questions are asked of both by everybody who is not ann.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from typing_extensions import override

from tests.fakes.http import Reply
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import OCI_MANIFEST, digest_of, make_image
from tests.fakes.tokens import FakeTokenServer
from tests.fakes.upstream import Upstream

LAYER = b"the secret layer " * 5000
MANIFEST = make_image(LAYER)
DIGEST, BLOB = digest_of(MANIFEST), digest_of(LAYER)
CONFIG = digest_of(b'{"os":"linux","architecture":"amd64"}')
ANN, WRONG = (
    "Basic " + b64encode(f"ann:{word}".encode()).decode() for word in ("secret-word", "a guess")
)
#: What tells how much is cached, but not what; and what is another node's for other reasons.
TOTALS = {"blobs", "size", "images", "unreferenced", "other_size", "reclaimable"}
TOTALS |= {"ingest", "quarantine", "free", "scrub"}
OWN = {"root", "uptime_seconds", "listeners", "pid"}


class HalfOpen(Upstream):
    """A registry where ``team/open`` is public and all else wants ann's login."""

    @override
    def _check(self, request: web.BaseRequest, name: str) -> Reply | None:
        return None if name == "team/open" else super()._check(request, name)


@dataclass(frozen=True)
class Question:
    """One request."""

    method: str
    path: str
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def of_content(up: str, repository: str) -> list[Question]:
    """Every way to ask for content of a repository: by path, by ns, whole, in parts, by HEAD."""
    found = []
    whats = (f"manifests/{DIGEST}", "manifests/none", f"blobs/{BLOB}", f"blobs/{CONFIG}")
    for what in (*whats, f"referrers/{DIGEST}"):
        for path in (f"/v2/{up}/{repository}/{what}", f"/v2/{repository}/{what}?ns={up}"):
            found += [Question(method, path) for method in ("GET", "HEAD")]
    part = {"Range": "bytes=0-9"}
    beyond = {"Range": f"bytes={len(LAYER) + 9}-"}
    blob = f"/v2/{up}/{repository}/blobs/{BLOB}"
    return [*found, *(Question("GET", blob, headers=ranged) for ranged in (part, beyond))]


def of_names(up: str) -> list[Question]:
    """What else can be asked about the private image and its repository."""
    base = f"/v2/{up}/team/secret"
    image = f"{up}/team/secret:1"
    return [
        *(Question(method, f"{base}/manifests/1") for method in ("GET", "HEAD", "DELETE")),
        Question("GET", f"{base}/tags/list"),
        Question("GET", f"{base}/tags/list?n=1"),
        Question("DELETE", f"{base}/blobs/{BLOB}"),
        Question("GET", f"/v2/_catalog?ns={up}"),
        Question("GET", "/v2/_catalog"),
        *(Question("GET", f"/api/v1/{what}?reference={image}")
          for what in ("digest", "manifest", "config")),
        *(Question("GET", f"/api/v1/{what}?reference={up}/team/secret@{DIGEST}")
          for what in ("digest", "manifest", "config")),
        Question("GET", f"/api/v1/tags?repository={up}/team/secret"),
        *(Question("GET", f"/api/v1/{what}")
          for what in ("images", "status", "cache/df", "cache/active", "access")),
        *(_post(f"/api/v1/{what}", **body) for what, body in (
            ("pull", {"reference": image}),
            ("pull", {"reference": image, "all_platforms": True}),
            ("push", {"source": image, "destination": "localhost/mine:1"}),
            ("tag", {"source": image, "target": "localhost/mine:1"}),
            ("rmi", {"reference": image}),
        )),
    ]  # fmt: skip


def of_pushes(up: str) -> list[Question]:
    """Pushes that would succeed by what is here already, if that was counted."""
    manifest = {"Content-Type": OCI_MANIFEST}
    found = []
    for target in ("localhost/mine", f"{up}/team/other"):
        uploads = f"/v2/{target}/blobs/uploads/"
        mounts = [f"?mount={BLOB}&from={source}" for source in (f"{up}/team/secret", "team/secret")]
        found += [Question("POST", uploads + mount) for mount in (*mounts, f"?mount={BLOB}")]
        found += [
            Question("POST", f"{uploads}?digest={BLOB}", "not the layer"),
            Question("PUT", f"/v2/{target}/manifests/1", MANIFEST.decode(), manifest),
            Question("GET", f"/v2/{target}/manifests/{DIGEST}"),
            Question("GET", f"/v2/{target}/blobs/{BLOB}"),
            Question("HEAD", f"/v2/{target}/blobs/{BLOB}"),
        ]
    return found


def _post(path: str, **body: object) -> Question:
    return Question("POST", path, json.dumps(body), {"Content-Type": "application/json"})


@dataclass(frozen=True)
class Told:
    """An answer, without what differs between any two nodes."""

    question: Question
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    @classmethod
    def of(
        cls, node: RunningNode, question: Question, status: int, headers: Any, body: bytes
    ) -> "Told":
        totals = question.path in ("/api/v1/status", "/api/v1/cache/df")
        text = body.decode(errors="replace")
        if totals:
            told = json.loads(text)
            images = told["images"] if isinstance(told["images"], list) else None
            told = {k: v for k, v in told.items() if k not in OWN | TOTALS}
            text = json.dumps(told | {"images": images})
        kept = sorted(
            (name.lower(), _plain(node, value))
            for name, value in headers
            if name.lower() != "date" and not (totals and name.lower() == "content-length")
        )
        return cls(question, status, tuple(kept), _plain(node, text))


def _plain(node: RunningNode, text: str) -> str:
    text = text.replace(f"127.0.0.1:{node.port}", "NODE")
    return re.sub(r"(/blobs/uploads/|^)[\w-]{32}$", r"\1SESSION", text)


Ask = Callable[[RunningNode, Sequence[Question]], Awaitable[list[Told]]]


def over_tcp(shown: str = "", *, sealed: bool = False) -> Ask:
    """Somebody on TCP who shows this, or a token for it."""

    async def ask(node: RunningNode, questions: Sequence[Question]) -> list[Told]:
        header = shown
        if sealed:
            async with node.stranger(shown) as client, client.get("/token") as answer:
                header = f"Bearer {(await answer.json())['token']}"
        async with node.stranger(header) as client:
            return [await _ask(node, client, question) for question in questions]

    return ask


async def _ask(node: RunningNode, client: aiohttp.ClientSession, question: Question) -> Told:
    async with client.request(
        question.method, question.path, data=question.body or None, headers=question.headers
    ) as answer:
        body = await answer.read()
        return Told.of(node, question, answer.status, answer.headers.items(), body)


CLIENT = """
import http.client, json, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
told = []
for method, path, body, headers in json.load(sys.stdin):
    connection = Unix("node")
    connection.request(method, path, body.encode() or None, headers)
    answer = connection.getresponse()
    told.append((answer.status, answer.getheaders(), answer.read().decode("latin-1")))
print(json.dumps(told))
"""


def as_another_user(shown: str = "") -> Ask:
    """Another user of this machine on the unix socket (only root can be one)."""

    async def ask(node: RunningNode, questions: Sequence[Question]) -> list[Told]:
        python = shutil.which("python3", path="/usr/bin:/bin")
        if os.geteuid() != 0 or python is None:
            pytest.skip("needs root and a python3 that every user may run")
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--reuid=61002", "--regid=61002", "--clear-groups", python, "-I", "-c"),
            *(CLIENT, str(node.socket)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        more = {"Authorization": shown} if shown else {}
        asked = [(q.method, q.path, q.body, q.headers | more) for q in questions]
        out, _ = await process.communicate(json.dumps(asked).encode())
        return [
            Told.of(node, question, status, headers, body.encode("latin-1"))
            for question, (status, headers, body) in zip(questions, json.loads(out), strict=True)
        ]

    return ask


STRANGERS = {
    "nobody over TCP": over_tcp(),
    "a token for nobody": over_tcp(sealed=True),
    "a wrong login over TCP": over_tcp(WRONG),
    "a token for a wrong login": over_tcp(WRONG, sealed=True),
    "user B": as_another_user(),
    "user B with a wrong login": as_another_user(WRONG),
}


@pytest.fixture(params=["basic", "bearer"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[HalfOpen]:
    """A registry with a private and a public repository, guarded in one of the two ways."""
    async with AsyncExitStack() as stack:
        users = {"ann": "secret-word"}
        if request.param == "basic":
            registry = HalfOpen(users=users)
        else:
            tokens = FakeTokenServer(users=users, anonymous=False)
            registry = HalfOpen(tokens=await stack.enter_async_context(tokens.serve()))
        yield await stack.enter_async_context(registry.serve())


@dataclass
class Nodes:
    """The node that has the image for ann, and the one that has nothing."""

    full: RunningNode
    empty: RunningNode
    upstream: HalfOpen

    async def answers(
        self, ask: Ask, questions: Sequence[Question]
    ) -> tuple[list[Told], list[Told], list[str], list[str]]:
        """What both say, and what each has asked upstream for it."""
        found = []
        for node in (self.full, self.empty):
            before = len(self.upstream.lines())
            found.append((await ask(node, questions), self.upstream.lines()[before:]))
        (full, full_lines), (empty, empty_lines) = found
        return full, empty, full_lines, empty_lines


@pytest.fixture
async def nodes(upstream: HalfOpen) -> AsyncIterator[Nodes]:
    upstream.add_image("team/secret", "1", LAYER)
    upstream.add_image("team/open", "1", b"nothing secret")
    async with AsyncExitStack() as stack:
        running = []
        for _ in range(2):
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="registryd-")))
            folder.chmod(0o755)
            node = running_node(folder, registries=plain(upstream))
            running.append(await stack.enter_async_context(node))
        client = await stack.enter_async_context(running[0].stranger(ANN))
        body = {"reference": f"{upstream.name}/team/secret:1", "all_platforms": True}
        async with client.post("/api/v1/pull", json=body) as answer:
            assert '"done"' in await answer.text()
        yield Nodes(running[0], running[1], upstream)


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("what", ["content", "names", "pushes"])
async def test_what_is_cached_is_not_told(nodes: Nodes, who: str, what: str) -> None:
    """Every answer to a stranger is the same whether ann's image is cached or not: status, headers
    and body; its registry is asked the same; and nothing of the image is in any of them."""
    up = nodes.upstream.name
    questions = {
        "content": of_content(up, "team/secret"), "names": of_names(up), "pushes": of_pushes(up),
    }[what]  # fmt: skip
    full, empty, full_lines, empty_lines = await nodes.answers(STRANGERS[who], questions)

    assert len(questions) == len(full)
    for ours, theirs in zip(full, empty, strict=True):
        assert theirs == ours
        assert "secret layer" not in ours.body
    assert empty_lines == full_lines


@pytest.mark.parametrize("who", ["nobody over TCP", "a token for nobody", "user B"])
async def test_a_public_neighbour_is_no_way_in(nodes: Nodes, who: str) -> None:
    """Whoever may read another repository of the registry learns nothing there about digests
    that are cached for ann."""
    up = nodes.upstream.name
    questions = [Question("GET", f"/v2/{up}/team/open/manifests/1"), *of_content(up, "team/open")]
    full, empty, full_lines, empty_lines = await nodes.answers(STRANGERS[who], questions)

    assert 200 == full[0].status
    for ours, theirs in zip(full[1:], empty[1:], strict=True):
        if ours.status != 200:  # the configuration is in both
            assert theirs == ours
            assert "secret layer" not in ours.body
    assert len(empty_lines) == len(full_lines)


@pytest.mark.parametrize("trouble", ["drop", "401", "403", "500"])
async def test_trouble_is_no_way_in_either(nodes: Nodes, trouble: str) -> None:
    """Nor does a registry in trouble help to tell them apart: its words are in the log alone."""
    up = nodes.upstream.name
    first = [Question("GET", f"/v2/{up}/team/open/manifests/1")]
    full, empty, _, _ = await nodes.answers(over_tcp(), first)
    assert [200, 200] == [told[0].status for told in (full, empty)]
    if trouble == "drop":
        nodes.upstream.drop("/team/open/blobs/", times=None)
    else:
        nodes.upstream.answer("/team/open/blobs/", int(trouble), "no", times=None)
    blobs = [q for q in of_content(up, "team/open") if f"blobs/{BLOB}" in q.path]
    full, empty, _, _ = await nodes.answers(over_tcp(), blobs)

    assert len(blobs) == len(full)
    for ours, theirs in zip(full, empty, strict=True):
        assert theirs == ours


async def test_the_metrics_name_nothing(nodes: Nodes) -> None:
    """What is counted are totals: no digest, no repository and no user is a label."""
    async with nodes.full.stranger() as client, client.get("/metrics") as answer:
        text = await answer.text()

    assert [] == [
        word for word in ("team", "secret", "ann", BLOB[7:19], DIGEST[7:19]) if word in text
    ]


async def test_ann_is_no_stranger(nodes: Nodes) -> None:
    """The questions are good ones: ann gets what is cached by all of them that ask for content."""
    up = nodes.upstream.name
    told = await cast(Ask, over_tcp(ANN, sealed=True))(nodes.full, of_content(up, "team/secret"))
    found = {one.question.path for one in told if one.status in (200, 206)}

    assert {f"/v2/{up}/team/secret/{what}" for what in (f"manifests/{DIGEST}", f"blobs/{BLOB}")} < (
        found
    )
