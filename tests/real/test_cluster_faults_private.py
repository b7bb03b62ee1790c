"""Story: private images in a cluster, and those who ask without a right to them.

Who fetches for another does it with the other's short-lived token; a password stays where it is.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from registryd.cluster.geometry import Geometry
from registryd.cluster.identity_files import IdentityFiles
from registryd.cluster.peer_tls import PeerTls
from tests.fakes.members import Site, stranger_client
from tests.fakes.peer import CHUNKS as FOR_CHUNKS
from tests.fakes.peer import FakePeer, fake_peer
from tests.fakes.tokens import FakeTokenServer, decode_basic
from tests.real.faulting import SIZE, Crew, Upstream, crew, layer, owned
from tests.real.stories import UP

PASSWORDS = {"ann": "s3cret word", "bob": "an0ther word"}
GEOMETRY = Geometry(SIZE)


def login(folder: Path, user: str) -> dict[str, Any]:
    """What a registry's section says so that this user's password is used, by everyone here."""
    file = folder / f"{user}.password"
    file.write_text(PASSWORDS[user] + "\n")
    file.chmod(0o600)
    return {"username": user, "password_file": str(file), "share_login": True}


@asynccontextmanager
async def private(
    folder: Path, upstream: Upstream, logins: Mapping[int, str]
) -> AsyncIterator[tuple[Crew, FakePeer, str]]:
    """Three nodes with these users' logins, a member that only listens, and the layer's digest.

    Every node owns some of the layer's chunks, and so does the member.
    """
    site = await asyncio.to_thread(Site.make, folder / "site")

    def own(number: int, made: Crew) -> Mapping[str, Any]:
        return {"registry": login(folder, logins[number]) if number in logins else {}}

    async with (
        fake_peer(site, "ear") as ear,
        crew(folder, upstream, 3, site=site, others=[ear.id], own=own) as nodes,
    ):
        content = layer(lambda digest: all(owned(digest, nodes.names, n) for n in nodes.names))
        yield nodes, ear, upstream.put(content)


def showed(upstream: Upstream, door: int) -> set[str]:
    """What a node has shown to the registry, in all that it asked of it."""
    return {
        seen.headers["Authorization"]
        for its, seen in upstream.by_door
        if its == door and "Authorization" in seen.headers
    }


def check_secrets(nodes: Crew, tokens: FakeTokenServer | None = None) -> None:
    """No password and no token is in anybody's log."""
    for secret in (*PASSWORDS.values(), *(tokens.issued if tokens else ())):
        assert secret not in nodes.logs(), secret


async def test_a_token_is_lent(tmp_path: Path) -> None:
    """One node has a login: the others get the chunks that they own with its token alone."""
    tokens = FakeTokenServer(users=PASSWORDS, anonymous=False)
    upstream = Upstream(tokens=tokens)
    async with tokens.serve(), private(tmp_path, upstream, {1: "ann"}) as (nodes, ear, digest):
        nodes.good(await nodes.pull(1))

        await nodes.have(digest, 1)
        fetched = upstream.doors(f"GET .*{digest}")
        assert set(nodes.doors.values()) == set(fetched), "not all owners have fetched"
        for number in (2, 3):
            shown = showed(upstream, nodes.doors[number])
            assert shown and all(each.startswith("Bearer token-") for each in shown), shown
        lent = ear.said("Registryd-Upstream")
        assert lent and all(re.fullmatch(r"Bearer token-\d+-\w+", each) for each in lent)
        assert not ear.said("Authorization")
        assert {"anonymous"}.isdisjoint(+tokens.counts)
        check_secrets(nodes, tokens)
        await nodes.check_cost(digest)

        # The token is not kept for their own users, nor has it given them a right.
        assert 3 == (await nodes.pull(2))[2].code
        status, _ = await asyncio.to_thread(nodes[2].daemon.get, f"/v2/{UP}/a/blobs/{digest}")
        assert status in (401, 403, 404)


async def test_basic_alone(tmp_path: Path) -> None:
    """A registry that knows no tokens: each node comes with its own login, or with none at all."""
    upstream = Upstream(users=PASSWORDS)
    logins = {1: "ann", 2: "bob"}
    async with private(tmp_path, upstream, logins) as (nodes, ear, digest):
        nodes.good(await nodes.pull(1, 2))

        await nodes.have(digest, 1, 2)
        for number in (1, 2, 3):
            shown = {decode_basic(each)[0] for each in showed(upstream, nodes.doors[number])}
            assert shown == ({logins[number]} if number in logins else set())
        assert ear.lines(FOR_CHUNKS)
        assert not ear.said("Registryd-Upstream")
        assert not ear.said("Authorization")
        assert 3 == (await nodes.pull(3))[3].code
        check_secrets(nodes)
        await nodes.check_cost(digest, 1, 2)


@asynccontextmanager
async def asking(node: str, tls: ssl.SSLContext, name: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client at a node's door for other nodes, which says that it is the node of this name."""
    connector = aiohttp.TCPConnector(ssl=tls)
    headers = {"Registryd-Node": name, "Registryd-Size": str(SIZE), "Registryd-Owed": "1"}
    headers["Range"] = f"bytes=0-{GEOMETRY.chunk - 1}"
    async with aiohttp.ClientSession(
        base_url=f"https://{node}", connector=connector, headers=headers
    ) as session:
        yield session


async def client_of(files: IdentityFiles) -> ssl.SSLContext:
    """What a node of these files shows to others."""
    return (await asyncio.to_thread(PeerTls.load, files)).client


async def asked(nodes: Crew, number: int, ear: FakePeer, repository: str, digest: str) -> bool:
    """Whether a node gives the member a chunk that it asks for without a token."""
    tls = await client_of(ear.files)
    async with (
        asking(nodes.names[number - 1], tls, ear.id) as session,
        session.get(f"/v2/{UP}/{repository}/blobs/{digest}", allow_redirects=False) as answer,
    ):
        return answer.status == 206


async def test_a_member_without_a_right(tmp_path: Path) -> None:
    """Nobody has a login: a member that shows no token is given nothing, whomever it asks, and the
    registry hears of the proof alone.
    """
    tokens = FakeTokenServer(users=PASSWORDS, anonymous=False)
    upstream = Upstream(tokens=tokens)
    async with tokens.serve(), private(tmp_path, upstream, {}) as (nodes, ear, digest):
        for number in (1, 2, 3):
            assert not await asked(nodes, number, ear, "a", digest)

        assert upstream.requests
        assert all(digest in seen.path for seen in upstream.requests)
        assert not upstream.chunk_bytes(digest)


async def test_another_repository(tmp_path: Path) -> None:
    """What a node holds of one repository it gives a member of no other one, unproven."""
    tokens = FakeTokenServer(users=PASSWORDS, anonymous=False)
    upstream = Upstream(tokens=tokens)
    async with tokens.serve(), private(tmp_path, upstream, {1: "ann"}) as (nodes, ear, digest):
        nodes.good(await nodes.pull(1))

        assert await asked(nodes, 1, ear, "a", digest)
        assert not await asked(nodes, 1, ear, "b", digest)


async def test_no_member(tmp_path: Path) -> None:
    """Another cluster's node, a web server's certificate, none, another's name: refused, all."""
    upstream = Upstream()
    async with private(tmp_path, upstream, {}) as (nodes, ear, digest):
        nodes.good(await nodes.pull(1))
        before = len(upstream.requests)
        other = await asyncio.to_thread(Site.make, tmp_path / "other", nodes.site.authority.cluster)
        foreign = await asyncio.to_thread(other.node, "ear")
        web = await asyncio.to_thread(nodes.site.web_server, "web.example")
        member = await client_of(ear.files)
        strangers = [stranger_client(ear.files.ca_file, files) for files in (foreign, web, None)]
        for tls in strangers:
            assert await refused(nodes.names[1], tls, ear.id, digest)

        assert await refused(nodes.names[1], member, "n9.example:5051", digest)
        assert before == len(upstream.requests)


async def refused(node: str, tls: ssl.SSLContext, name: str, digest: str) -> bool:
    """Whether a node turns away who asks so: by TLS, or with 403 for what the certificate is."""
    async with asking(node, tls, name) as session:
        try:
            async with session.get(f"/v2/{UP}/a/blobs/{digest}", allow_redirects=False) as answer:
                return answer.status == 403
        except (aiohttp.ClientError, OSError):
            return True
