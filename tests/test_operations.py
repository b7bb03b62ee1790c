"""The verbs of a node, where the server's tests do not reach: names, shares, what can be pushed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache.content import Digest
from cache.errors import NameNotFound
from cache.layout import blob_path
from registryd.oci.errors import Denied, ManifestUnknown, Unauthorized, UsageError
from registryd.operations import Operations
from registryd.secrets import Login, Secret
from registryd.transfer.report import Event
from tests.fakes.endpoints import Sample, image, index
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.images.layers.trees import layer as tarred
from tests.images.layers.trees import member

SHARED, ONE, TWO = b"shared " * 1000, b"one " * 1000, b"two " * 1000


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        yield server


@pytest.fixture
async def node(upstream: FakeRegistry, tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, registries=plain(upstream, tag_ttl=0.0)) as running:
        yield running


@pytest.fixture
def verbs(node: RunningNode) -> Operations:
    return Operations(node.node)


def offer(upstream: FakeRegistry, sample: Sample, repository: str = "team/app") -> str:
    """Put an image into the scripted registry, tagged 1; its name."""
    for content in sample.blobs.values():
        upstream.add_blob(repository, content)
    for document in sample.documents.values():
        upstream.add_manifest(repository, "", document.raw, document.media_type)
    upstream.add_manifest(repository, "1", sample.root.raw, sample.root.media_type)
    return f"{upstream.name}/{repository}:1"


async def images(verbs: Operations) -> dict[str, dict[str, Any]]:
    """The list by reference."""
    listed: Any = (await verbs.images())["images"]
    return {entry["reference"]: entry for entry in listed}


async def test_sizes_of_what_images_share(verbs: Operations, upstream: FakeRegistry) -> None:
    """An image's own size is what would be freed without it; a second name takes nothing."""
    one = offer(upstream, image(SHARED, ONE), "team/one")
    two = offer(upstream, image(SHARED, TWO), "team/two")
    for name in (one, two):
        await verbs.pull(name)
    await verbs.tag(one, "localhost/one:again")
    listed = await images(verbs)
    df: Any = await verbs.df()
    config = image(SHARED, ONE).layers[0].size

    for name, layer in ((one, ONE), (two, TWO)):
        manifest = listed[name]["size"] - config - len(SHARED) - len(layer)
        assert listed[name]["own_size"] == manifest + len(layer)
    assert listed["localhost/one:again"]["own_size"] == listed[one]["own_size"]
    assert df["shared_size"] == config + len(SHARED)
    own = listed[one]["own_size"] + listed[two]["own_size"]
    assert df["size"] == df["shared_size"] + own
    freed: Any = (await verbs.rmi(two))["freed"]
    assert freed == listed[two]["own_size"]


async def test_platforms_that_are_here(verbs: Operations, upstream: FakeRegistry) -> None:
    """The list shows the platforms that are held, of all that the index has."""
    name = offer(upstream, index(amd64=image(ONE), arm64=image(TWO, architecture="arm64")))
    await verbs.pull(name, platforms=["linux/arm64"])

    assert ["linux/arm64/v8"] == (await images(verbs))[name]["platforms"]


async def test_platforms_that_could_not_be_read_are_read_again(
    verbs: Operations, upstream: FakeRegistry, node: RunningNode
) -> None:
    """That an image could not be looked into once is not what it is said to be from then on."""
    name = offer(upstream, image(ONE))
    await verbs.pull(name)
    path = blob_path(node.root, image(ONE).root.digest)
    path.rename(node.root / "away")
    before = (await images(verbs))[name]["platforms"]
    (node.root / "away").rename(path)

    assert ([], ["linux/amd64"]) == (before, (await images(verbs))[name]["platforms"])


async def test_what_is_held_of_an_index_is_pushed(
    verbs: Operations, upstream: FakeRegistry
) -> None:
    """Of an index whose platforms are not all here, those that are can be pushed."""
    name = offer(upstream, index(amd64=image(ONE), arm64=image(TWO, architecture="arm64")))
    await verbs.pull(name, platforms=["linux/amd64"])
    events: list[dict[str, object]] = []
    await verbs.push(name, f"{upstream.name}/copy/app:1", report=events.append)
    pushed = upstream.repositories["copy/app"]

    assert ["linux/amd64"] == events[-1]["platforms"]
    assert str(Digest.of(ONE)) in pushed.blobs and str(Digest.of(TWO)) not in pushed.blobs


async def test_a_push_to_localhost_stays_here(verbs: Operations, upstream: FakeRegistry) -> None:
    """The node's own registry is a destination like any other."""
    name = offer(upstream, image(ONE))
    await verbs.pull(name)
    before = len(upstream.requests)
    await verbs.push(name, "localhost/mine:1")

    assert "localhost/mine:1" in await images(verbs)
    assert before == len(upstream.requests)


async def test_tags_of_own_names(verbs: Operations, upstream: FakeRegistry) -> None:
    """The tags of an own repository are its names here."""
    name = offer(upstream, image(ONE))
    await verbs.pull(name)
    for tag in ("b", "a"):
        await verbs.tag(name, f"localhost/mine:{tag}")

    assert {"name": "localhost/mine", "tags": ["a", "b"]} == await verbs.tags("localhost/mine")


@pytest.mark.parametrize("target", ["docker.io/library/a:1", "localhost/a@sha256:" + "0" * 64])
async def test_only_own_names_are_set(
    verbs: Operations, upstream: FakeRegistry, target: str
) -> None:
    """What another registry's name means is not ours to say, nor what a digest means."""
    name = offer(upstream, image(ONE))
    await verbs.pull(name)

    with pytest.raises(UsageError, match="only localhost/NAME:TAG"):
        await verbs.tag(name, target)


async def test_what_is_not_held_has_no_new_name(verbs: Operations, upstream: FakeRegistry) -> None:
    """An image that is not in the cache cannot be named; and nothing is fetched for it."""
    name = offer(upstream, image(ONE))

    with pytest.raises(ManifestUnknown):
        await verbs.tag(name, "localhost/mine:1")
    assert [] == upstream.lines("GET")


async def test_rmi_by_digest_takes_all_names(verbs: Operations, upstream: FakeRegistry) -> None:
    """A digest stands for every name of its repository that means it."""
    sample = image(ONE)
    name = offer(upstream, sample)
    upstream.add_manifest("team/app", "2", sample.root.raw, sample.root.media_type)
    other = name.removesuffix("1") + "2"
    for each in (name, other):
        await verbs.pull(each)
    exact = name.removesuffix(":1") + f"@{sample.root.digest}"
    removed = await verbs.rmi(exact)

    assert ([name, other], {}) == (removed["untagged"], await images(verbs))
    with pytest.raises(NameNotFound):
        await verbs.rmi(exact)


async def test_config_of_an_artifact(verbs: Operations, upstream: FakeRegistry) -> None:
    """The configuration is fetched alone, without layers."""
    name = offer(upstream, image(ONE))
    raw, _, digest, _ = await verbs.config(name)

    assert str(Digest.of(raw)) == digest
    assert 1 == len(upstream.lines("GET .*/blobs/"))


async def test_listing_is_no_use(
    verbs: Operations, node: RunningNode, upstream: FakeRegistry
) -> None:
    """To look at the list does not make an image look used."""
    name = offer(upstream, image(ONE))
    await verbs.pull(name)
    first = (await images(verbs))[name]["last_used"]

    assert first == (await images(verbs))[name]["last_used"]


async def test_nobody_writes_in_the_node_s_name(upstream: FakeRegistry, tmp_path: Path) -> None:
    """What the node logs in with is for reading: a caller who pushes needs a login of their own."""
    upstream.users = {"node": "secret"}
    (password := tmp_path / "password").write_text("secret")
    settings = {"username": "node", "password_file": password, "share_login": True}
    async with running_node(tmp_path, registries=plain(upstream, **settings)) as running:
        verbs, name = Operations(running.node), offer(upstream, image(ONE))
        await verbs.pull(name, principal="uid:1000")
        copy = f"{upstream.name}/copy/app:1"
        with pytest.raises(Unauthorized):
            await verbs.push(name, copy, principal="uid:1000")
        refused = "copy/app" in upstream.repositories
        login = Login("node", Secret("secret"))
        await verbs.push(name, copy, principal="uid:1000", login=login)

    assert (False, True) == (refused, "copy/app" in upstream.repositories)


async def test_nobody_writes_by_the_node_s_certificate(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Where the connection itself lets the node in, only its owner pushes, shared or not."""
    settings = {"cert_dir": tmp_path, "share_login": True}
    async with running_node(tmp_path / "n", registries=plain(upstream, **settings)) as running:
        verbs, name = Operations(running.node), offer(upstream, image(ONE))
        await verbs.pull(name, principal="uid:1000")
        copy = f"{upstream.name}/copy/app:1"
        with pytest.raises(Denied, match="the node's owner alone can push there"):
            await verbs.push(name, copy, principal="uid:1000", login=Login("bob", Secret("y")))
        refused = "copy/app" in upstream.repositories
        await verbs.push(name, copy)

    assert (False, True) == (refused, "copy/app" in upstream.repositories)


async def test_who_is_not_let_in_converts_nothing(
    upstream: FakeRegistry, verbs: Operations
) -> None:
    """That an image is held, or was converted, is not told to whom its registry keeps out."""
    upstream.users = {"ann": "word"}
    name, events = offer(upstream, image(tarred(member("x", b"x")))), list[Event]()
    login = Login("ann", Secret("word"))
    await verbs.convert(name, principal="uid:1000", login=login, report=events.append)
    told = list[Event]()
    with pytest.raises(Unauthorized):
        await verbs.convert(name, principal="uid:1001", report=told.append)

    assert ("resolved", "converting", "done") == tuple(
        str(each["event"]) for each in (events[0], *events[-2:])
    )
    assert 1 == sum(each["event"] == "done" for each in events)
    assert [] == told


async def test_as_whom_others_log_in_is_theirs(upstream: FakeRegistry, tmp_path: Path) -> None:
    """Of allowances a caller is told their own: what the node or another has left, and under which
    name, is for the owner."""
    upstream.users = {"node": "secret", "ann": "word"}
    upstream.header("", "RateLimit-Remaining", "3")
    (password := tmp_path / "password").write_text("secret")
    settings = {"username": "node", "password_file": password, "share_login": True}
    config = plain(upstream, **settings, tag_ttl=0.0)
    told: dict[str, set[object]] = {}
    async with running_node(tmp_path / "n", registries=config) as running:
        verbs, name = Operations(running.node), offer(upstream, image(ONE))
        ann = Login("ann", Secret("word"))
        for who, login in (("uid:1", None), ("uid:2", ann), ("", None)):
            events: list[dict[str, object]] = []
            await verbs.pull(name, principal=who, login=login, report=events.append)
            allowance = await verbs.ratelimit(name, principal=who, login=login)
            warned = {each["account"] for each in events if each["event"] == "ratelimit"}
            told[who] = {*warned, allowance["account"]}

    assert {"uid:1": {""}, "uid:2": {"ann"}, "": {"node"}} == told


async def test_a_push_mounts_what_its_registry_has(
    verbs: Operations, upstream: FakeRegistry
) -> None:
    """Blobs that the cache has seen elsewhere at the same registry are mounted, not sent."""
    name = offer(upstream, image(ONE, TWO), "team/app")
    await verbs.pull(name)
    await verbs.push(name, f"{upstream.name}/other/app:2")
    mounts = upstream.lines("mount=")

    assert 3 == len(mounts)
    assert all(line.endswith("from=team%2Fapp") for line in mounts)
    assert [] == upstream.lines("^PUT .*/blobs/")
    assert "2" in upstream.repositories["other/app"].tags


async def test_a_push_mounts_from_where_the_caller_may_read(
    verbs: Operations, node: RunningNode, upstream: FakeRegistry
) -> None:
    """What a caller was not let into is nowhere to be mounted from; refusals are uploads."""
    secret = offer(upstream, image(ONE, TWO), "secret/app")
    await verbs.pull(secret, login=Login("ann", Secret("x")))
    own = image(ONE, TWO)
    local = "localhost/app:1"
    await verbs.tag(secret, local)
    upstream.mounts = False
    await verbs.push(local, f"{upstream.name}/other/app:2", principal="uid:1000",
                     login=Login("bob", Secret("y")))  # fmt: skip

    assert [] == upstream.lines("mount=")
    assert str(own.root.digest) in upstream.repositories["other/app"].manifests

    await verbs.push(local, f"{upstream.name}/third/app:2")

    assert 3 == len(upstream.lines("mount="))
    assert str(own.root.digest) in upstream.repositories["third/app"].manifests
