"""A private image in the cache is given to those who have proven that it is theirs to read."""

import asyncio
import json
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from registryd.config import AccessConfig, RegistryConfig
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.upstream import Upstream

LAYER = b"the secret layer " * 5000
ANN = "Basic " + b64encode(b"ann:secret-word").decode()
WRONG = "Basic " + b64encode(b"ann:a guess").decode()


@pytest.fixture
async def guarded() -> AsyncIterator[FakeRegistry]:
    """A registry that wants ann's password."""
    async with Upstream(users={"ann": "secret-word"}).serve() as server:
        yield server


@pytest.fixture
async def shared(guarded: FakeRegistry) -> AsyncIterator[RunningNode]:
    """A node that has no login of its own, where every user can reach its socket."""
    with TemporaryDirectory(prefix="registryd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        async with running_node(folder, registries=plain(guarded)) as node:
            yield node


@pytest.fixture
async def client(shared: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    async with shared.stranger() as session:
        yield session


@pytest.fixture
def paths(guarded: FakeRegistry) -> list[str]:
    """All ways to the image: by tag, by digest, its layer, its tags."""
    digest = guarded.add_image("team/secret", "1", LAYER)
    base = f"/v2/{guarded.name}/team/secret"
    return [
        f"{base}/manifests/1",
        f"{base}/manifests/{digest}",
        f"{base}/blobs/{digest_of(LAYER)}",
        f"{base}/tags/list",
    ]


async def statuses(
    client: aiohttp.ClientSession, paths: list[str], login: str = "", method: str = "GET"
) -> list[int]:
    """What is answered to each."""
    found = []
    for path in paths:
        headers = {"Authorization": login} if login else {}
        async with client.request(method, path, headers=headers) as answer:
            body = await answer.read()
            found.append(answer.status)
            assert answer.status == 200 or LAYER[:100] not in body
    return found


@pytest.mark.parametrize(
    ("login", "refused"), [("", 401), (WRONG, 403)], ids=["nobody", "a wrong password"]
)
async def test_nobody_else_gets_what_was_cached_for_one(
    client: aiohttp.ClientSession, paths: list[str], login: str, refused: int
) -> None:
    """After ann has the whole image in the cache, others get nothing of it, by no way; who has
    shown nothing is asked for a token first."""
    ann = await statuses(client, paths, ANN)
    others = await statuses(client, paths, login)
    heads = await statuses(client, paths[:3], login, "HEAD")

    assert [200] * 4 == ann
    assert [refused] * 7 == others + heads


async def test_the_blob_alone_is_refused_too(
    client: aiohttp.ClientSession, paths: list[str], guarded: FakeRegistry
) -> None:
    """A layer of which the digest is known is refused as well, first of all requests."""
    assert [401] == await statuses(client, paths[2:3])
    assert [200, 401] == [
        *await statuses(client, paths[2:3], ANN),
        *await statuses(client, paths[2:3]),
    ]


async def test_a_grant_spares_the_registry(
    client: aiohttp.ClientSession, paths: list[str], guarded: FakeRegistry
) -> None:
    """Who has proven access once is not proven again for each request."""
    await statuses(client, paths[:3], ANN)
    before = len(guarded.requests)
    again = await statuses(client, paths[:3], ANN)

    assert ([200] * 3, before) == (again, len(guarded.requests))


async def test_a_grant_ends(guarded: FakeRegistry, paths: list[str], tmp_path: Path) -> None:
    """When its time is over access is proven anew: a password that was changed ends it."""
    access = AccessConfig(grant_ttl=0.0)
    async with (
        running_node(tmp_path, registries=plain(guarded), access=access) as node,
        node.stranger() as client,
    ):
        first = await statuses(client, paths[:3], ANN)
        guarded.users = {"ann": "another-word"}
        second = await statuses(client, paths[:3], ANN)

    assert ([200] * 3, [403] * 3) == (first, second)


async def test_lists_show_what_may_be_seen(
    client: aiohttp.ClientSession, shared: RunningNode, paths: list[str], guarded: FakeRegistry
) -> None:
    """The image is in ann's list and the owner's alone; of the room others see totals."""
    body = {"reference": f"{guarded.name}/team/secret:1", "all_platforms": True}
    async with client.post("/api/v1/pull", json=body, headers={"Authorization": ANN}) as answer:
        last = json.loads((await answer.text()).splitlines()[-1])
    seen, blobs, room = {}, {}, {}
    async with shared.owner() as owner:
        for who, session, login in (
            ("ann", client, ANN), ("nobody", client, ""), ("owner", owner, "")
        ):  # fmt: skip
            for what in ("images", "cache/df"):
                headers = {"Authorization": login} if login else {}
                async with session.get(f"/api/v1/{what}", headers=headers) as answer:
                    seen[who, what] = len((told := await answer.json())["images"])
            room[who] = (told["unique_size"], told["other_size"])
            async with session.get("/api/v1/cache/blobs", headers=headers) as answer:
                blobs[who] = {name for b in (await answer.json())["blobs"] for name in b["images"]}

    assert "done" == last["event"]
    assert {
        ("ann", "images"): 1, ("ann", "cache/df"): 1,
        ("nobody", "images"): 0, ("nobody", "cache/df"): 0,
        ("owner", "images"): 1, ("owner", "cache/df"): 1,
    } == seen  # fmt: skip
    assert {
        "ann": {body["reference"]}, "nobody": set(), "owner": {body["reference"]},
    } == blobs  # fmt: skip
    assert {"ann": room["owner"], "nobody": room["owner"][::-1], "owner": (told["size"], 0)} == room


async def test_sizes_do_not_tell_of_others(
    client: aiohttp.ClientSession, shared: RunningNode, paths: list[str], guarded: FakeRegistry
) -> None:
    """What an image shares with one that the caller may not see counts as its own to them."""
    guarded.add_image("team/other", "1", LAYER, b"and more")
    for name in (_name(paths), f"{guarded.name}/team/other:1"):
        pull, login = {"reference": name}, {"Authorization": ANN}
        async with client.post("/api/v1/pull", json=pull, headers=login) as answer:
            assert '"done"' in await answer.text()
    names = {"source": _name(paths), "target": "localhost/mine:1"}
    seen = []
    async with shared.owner() as owner:
        async with owner.post("/api/v1/tag", json=names) as answer:
            assert answer.status == 200, await answer.text()
        for session in (client, owner):
            for what in ("images", "cache/df"):
                async with session.get(f"/api/v1/{what}") as answer:
                    found = {each["reference"]: each for each in (await answer.json())["images"]}
                seen.append(found["localhost/mine:1"])

    assert [True, True, False, False] == [each["own_size"] == each["size"] for each in seen]


@pytest.mark.parametrize("what", ["digest", "manifest", "config"])
async def test_the_control_api_refuses_too(
    client: aiohttp.ClientSession, paths: list[str], guarded: FakeRegistry, what: str
) -> None:
    """What /v2 refuses, /api/v1 refuses: for want of a login, and it says so."""
    await statuses(client, paths, ANN)
    path = f"/api/v1/{what}?reference={guarded.name}/team/secret:1"
    async with client.get(path) as answer:
        body = await answer.json(content_type=None)

    assert (401, 3) == (answer.status, body["exit_code"])


async def test_public_content_is_for_all(
    client: aiohttp.ClientSession, guarded: FakeRegistry, paths: list[str]
) -> None:
    """What can be read without a login needs none here either, though it was first pulled by
    ann."""
    await statuses(client, paths[:3], ANN)
    guarded.users = None

    assert [200] * 3 == await statuses(client, paths[:3])


@pytest.fixture
async def own(guarded: FakeRegistry, tmp_path: Path) -> AsyncIterator[RunningNode]:
    """A node that has ann's login itself."""
    (password := tmp_path / "password").write_text("secret-word")
    login = {"username": "ann", "password_file": password}
    async with running_node(tmp_path, registries=plain(guarded, **login)) as node:
        yield node


async def test_the_node_s_own_login_serves_its_owner(own: RunningNode, paths: list[str]) -> None:
    """What the node may read by its own login is its owner's; others get none of it, neither
    before the owner's pull nor after it."""
    async with own.owner() as owner, own.nobody() as nobody:
        before = await statuses(nobody, paths)
        ours = await statuses(owner, paths)
        async with owner.post("/api/v1/pull", json={"reference": _name(paths)}) as answer:
            pulled = json.loads((await answer.text()).splitlines()[-1])["event"]
        after = await statuses(nobody, paths)

    assert ([403] * 4, [200] * 4, "done", [403] * 4) == (before, ours, pulled, after)


async def test_a_socket_that_is_a_login_serves_its_owner(
    own: RunningNode, paths: list[str], guarded: FakeRegistry, tmp_path: Path
) -> None:
    """A node that asks another one over its socket is that one's owner: what it is given so is for
    its own owner, and for nobody else, whatever they show."""
    entry = RegistryConfig(endpoint=f"unix://{own.socket}")
    async with (
        running_node(tmp_path / "far", registries={guarded.name: entry}) as far,
        far.owner() as owner,
        far.stranger() as stranger,
    ):
        ours = await statuses(owner, paths)
        theirs = [await statuses(stranger, paths, login) for login in ("", ANN, WRONG)]

    assert [200] * 4 == ours
    assert [[401] * 4, [403] * 4, [403] * 4] == theirs


async def test_a_shared_login_serves_all(
    guarded: FakeRegistry, tmp_path: Path, paths: list[str]
) -> None:
    """With share_login the node's login serves everybody, without a login of theirs."""
    (password := tmp_path / "password").write_text("secret-word")
    login = {"username": "ann", "password_file": password, "share_login": True}
    async with (
        running_node(tmp_path, registries=plain(guarded, **login)) as node,
        node.stranger() as client,
    ):
        assert [200] * 4 == await statuses(client, paths)


async def test_the_node_s_login_fetches_what_is_public(
    own: RunningNode, guarded: FakeRegistry, paths: list[str]
) -> None:
    """A public image is proven without a login, and its bytes are fetched with the node's."""
    guarded.users = None
    async with own.stranger() as client:
        first = await statuses(client, paths[:1])
        guarded.users = {"ann": "secret-word"}
        layer = await statuses(client, paths[2:3])

    assert ([200], [200]) == (first, layer)


async def test_a_revoked_grant_is_proven_anew(
    shared: RunningNode, client: aiohttp.ClientSession, paths: list[str], guarded: FakeRegistry
) -> None:
    """The owner sees who was let in, and ends it: the registry decides again, for held bytes too;
    a name of a login may be as short as the log has it."""
    await statuses(client, paths, ANN)
    async with shared.owner() as owner:
        async with owner.get("/api/v1/access") as answer:
            (grant,) = (await answer.json())["grants"]
        guarded.users = {"ann": "another-word"}
        held = await statuses(client, paths[:3], ANN)
        body = {"whose": grant["principal"][:14]}
        async with owner.post("/api/v1/access/revoke", json=body) as answer:
            gone = (await answer.json())["revoked"]

    assert f"{guarded.name}/team/secret" == grant["repository"]
    assert ([200] * 3, [grant]) == (held, gone)
    assert [403] * 3 == await statuses(client, paths[:3], ANN)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"repository": "{0}/team/secret"}, 1),
        ({"repository": "{0}/team/secret:1"}, 1),
        ({"repository": "{0}/team/none"}, 2),
        ({"whose": "uid:7"}, 1),
        ({"whose": "login:ffffffff"}, 2),
        ({"whose": "uid:7", "repository": "{0}/team/secret"}, 2),
        ({"everything": True}, 0),
    ],
)
async def test_what_is_revoked(
    shared: RunningNode, client: aiohttp.ClientSession, guarded: FakeRegistry,
    paths: list[str], body: dict[str, object], left: int,
) -> None:  # fmt: skip
    """A repository, a principal, both, or all: nothing else ends."""
    await statuses(client, paths, ANN)
    await shared.node.store.grants.add("ghcr.io/org/app", "uid:7", 60)
    body = {k: v.format(guarded.name) if isinstance(v, str) else v for k, v in body.items()}
    async with (
        shared.owner() as owner,
        owner.post("/api/v1/access/revoke", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()

    assert left == len(await shared.node.store.grants.all())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "say whose access ends"),
        ({"everything": True, "whose": "uid:7"}, "say whose access ends"),
        ({"whose": "login:"}, "may be anybody"),
        ({"repository": "A B"}, "A B"),
    ],
)
async def test_what_cannot_be_revoked(
    shared: RunningNode, body: dict[str, object], said: str
) -> None:
    """What would end everybody's access by a slip is refused."""
    await shared.node.store.grants.add("ghcr.io/org/app", "login:" + "f" * 64, 60)
    async with (
        shared.owner() as owner,
        owner.post("/api/v1/access/revoke", json=body) as answer,
    ):
        text = await answer.text()

    assert (400, True) == (answer.status, said in text)
    assert 1 == len(await shared.node.store.grants.all())


async def test_grants_are_the_owner_s_business(client: aiohttp.ClientSession) -> None:
    """Nobody else sees who may read what, or ends it."""
    seen = []
    for headers in ({}, {"Authorization": ANN}):
        async with client.get("/api/v1/access", headers=headers) as answer:
            seen.append(answer.status)
        body = {"everything": True}
        async with client.post("/api/v1/access/revoke", json=body, headers=headers) as answer:
            seen.append(answer.status)

    assert [403] * 4 == seen


def _name(paths: list[str]) -> str:
    """The image, as it is pulled."""
    return paths[0].removeprefix("/v2/").replace("/manifests/", ":")


CLIENT = """
import http.client, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
for path in sys.argv[2:]:
    connection = Unix("node")
    connection.request("GET", path)
    answer = connection.getresponse()
    print(answer.status, len(answer.read()))
"""


async def test_users_are_told_apart_by_the_kernel(
    shared: RunningNode, client: aiohttp.ClientSession, paths: list[str], guarded: FakeRegistry
) -> None:
    """On the unix socket the kernel says who asks: the owner needs no login, others do."""
    await statuses(client, paths, ANN)
    python = shutil.which("python3", path="/usr/bin:/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("needs root and a python3 that every user may run")
    words = ["setpriv", "--reuid=61001", "--regid=61001", "--clear-groups", python, "-I", "-c",
             CLIENT, str(shared.socket), *paths[:3], "/api/v1/images"]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*words, **pipes)
    out, err = await process.communicate()
    async with shared.owner() as owner:
        ours = await statuses(owner, paths[:3])
    lines = [line.split() for line in out.decode().splitlines()]

    assert ["403", "403", "403", "200"] == [status for status, _ in lines], err
    assert lines[-1][1] == str(len(json.dumps({"images": []})))
    assert [200] * 3 == ours
