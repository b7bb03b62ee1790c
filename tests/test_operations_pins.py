"""Pins as the API has them: what a name meant is kept, by whom, and what rmi says of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache.errors import PatternInvalid, Pinned, PinNotFound
from registryd.oci.errors import Denied, ManifestUnknown, Unauthorized, UsageError
from registryd.operations import Operations
from registryd.operations.pins import USERS_MOST
from registryd.secrets import Login, Secret
from tests.fakes.endpoints import image
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.test_operations import images, offer

OLD, NEW = b"old " * 100, b"new " * 100


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


async def test_a_moved_tag_frees_nothing_that_is_pinned(
    verbs: Operations, upstream: FakeRegistry, node: RunningNode
) -> None:
    """A pin is of what the name means here, whatever its registry says by now; without it, what
    the tag has left can be collected."""
    name = offer(upstream, image(OLD))
    await verbs.pull(name)
    old = (await images(verbs))[name]["digest"]
    offer(upstream, image(NEW))
    pinned = await verbs.pin(name, name="job:1")
    await verbs.pull(name)
    spare = await node.node.store.unreferenced()
    await verbs.unpin(name="job:1")

    assert ({}, old) == (spare, pinned["digest"])
    assert old != (await images(verbs))[name]["digest"]
    assert old in {str(digest) for digest in await node.node.store.unreferenced()}


async def test_the_last_name_of_what_is_pinned_stays(
    verbs: Operations, upstream: FakeRegistry
) -> None:
    """rmi takes other names; for the last one it says who has pinned it, and how that is ended."""
    name = offer(upstream, image(OLD))
    await verbs.pull(name)
    await verbs.tag(name, "localhost/mine:1")
    await verbs.pin("localhost/mine:1", lasting="1h")
    listed = await images(verbs)
    await verbs.rmi(name)

    assert [True, True] == [entry["pinned"] for entry in listed.values()]
    with pytest.raises(Pinned, match=r"^localhost/mine:1 is pinned by localhost/mine:1 until 2.*"):
        await verbs.rmi("localhost/mine:1")
    await verbs.unpin("localhost/mine:1")
    await verbs.rmi("localhost/mine:1")
    assert {} == await images(verbs)


async def test_what_is_not_here_can_be_pinned_ahead(
    verbs: Operations, upstream: FakeRegistry
) -> None:
    """A name that nothing is held by is asked for at its registry; the answer says: not here."""
    made = await verbs.pin(offer(upstream, image(OLD)))

    assert (False, None, "root") == (made["held"], made["expires"], made["owner"])


async def test_a_user_pins_what_they_may_for_a_time(
    verbs: Operations, upstream: FakeRegistry
) -> None:
    """A user's pin ends; they see and end only their own; so many they have and no more."""
    name = offer(upstream, image(OLD))
    await verbs.pin(name, name="job:1")
    mine = await verbs.pin(name, name="job:1", principal="uid:7")
    listed: Any = (await verbs.pins(principal="uid:7"))["pins"]

    assert ("uid:7", True) == (mine["owner"], mine["expires"] is not None)
    assert ["uid:7"] == [pin["owner"] for pin in listed]
    with pytest.raises(Denied, match="at most 30d"):
        await verbs.pin(name, lasting="31d", principal="uid:7")
    await verbs.unpin(name="job:1", principal="uid:7")
    with pytest.raises(PinNotFound):
        await verbs.unpin(name="job:1", principal="uid:7")
    for number in range(USERS_MOST):
        await verbs.pin(name, name=f"p{number}", principal="uid:7")
    await verbs.pin(name, name="p0", principal="uid:7")
    with pytest.raises(Denied, match=f"{USERS_MOST} pins"):
        await verbs.pin(name, name="more", principal="uid:7")


async def test_made_up_logins_pin_no_more_than_one(
    verbs: Operations, upstream: FakeRegistry
) -> None:
    """Whoever comes over TCP has one user's pins together; a user of the machine is not in their
    way, and theirs are made anew."""
    name = offer(upstream, image(OLD))
    for number in range(USERS_MOST):
        await verbs.pin(name, principal=f"login:{number}")
    for principal in ("login:more", "anonymous"):
        with pytest.raises(Denied, match="over TCP have 256 pins"):
            await verbs.pin(name, principal=principal)
    await verbs.pin(name, principal="login:7")
    await verbs.pin(name, principal="uid:7")


async def test_who_is_not_let_in_pins_nothing(verbs: Operations, upstream: FakeRegistry) -> None:
    """That a private image is held is not told to whom its registry keeps out, by tag or digest."""
    upstream.users = {"ann": "word"}
    name, ann = offer(upstream, image(OLD)), Login("ann", Secret("word"))
    await verbs.pull(name, principal="uid:7", login=ann)
    mine = await verbs.pin(name, principal="uid:7", login=ann)
    for reference in (name, f"{name}@{mine['digest']}"):
        with pytest.raises(Unauthorized):
            await verbs.pin(reference, principal="uid:8")

    assert {"pins": []} == await verbs.pins(principal="uid:8")


async def test_a_digest_is_of_its_repository(verbs: Operations, upstream: FakeRegistry) -> None:
    """Who may read one repository neither keeps another's image by its digest, nor learns whether
    it is held, or how large it is."""
    name = offer(upstream, image(OLD))
    await verbs.pull(name)
    theirs = (await images(verbs))[name]["digest"]
    upstream.add_image("open/app", "1", NEW)
    await verbs.pull(f"{upstream.name}/open/app:1", principal="uid:8")
    with pytest.raises(ManifestUnknown):
        await verbs.pin(f"{upstream.name}/open/app@{theirs}", principal="uid:8")
    digest = upstream.add_image("open/later", "1", b"later " * 100)
    ahead = await verbs.pin(f"{upstream.name}/open/later@{digest}", principal="uid:8")
    mine = await verbs.pin(f"{name}@{theirs}", principal="uid:8")

    assert ((digest, False), (theirs, True)) == tuple(
        (each["digest"], each["held"]) for each in (ahead, mine)
    )
    assert theirs == (await verbs.pin(f"{upstream.name}/open/app@{theirs}"))["digest"]


@pytest.mark.parametrize("name", ["", "a/b", "-x", "x" * 129, "a b", "a\n"])
async def test_a_name_is_never_taken_for_a_reference(verbs: Operations, name: str) -> None:
    """A chosen name has no slash and no blank; a pin is ended by one of the two."""
    with pytest.raises(UsageError):
        await verbs.pin("localhost/a:1", name=name)
    with pytest.raises(UsageError):
        await verbs.unpin()


async def test_a_pattern_pins_what_it_means(
    verbs: Operations, upstream: FakeRegistry, node: RunningNode
) -> None:
    """The owner pins by a pattern, which is listed, shown with its images, stands in the way of
    rmi, and ends by its own words; a user does none of it. The configuration's ends there alone."""
    name = offer(upstream, image(OLD))
    await verbs.pull(name)
    pattern = f"{upstream.name}/**"
    node.node.store.pins.always = ("localhost/**",)
    made = await verbs.pin(pattern, until="2999-01-31")
    listed = (await verbs.pins())["pins"]

    assert (None, True, "2999-01-31T00:00:00+00:00") == (
        made["digest"], made["held"], made["expires"],
    )  # fmt: skip
    assert [("localhost/**", "configuration"), (pattern, "root")] == [
        (each["name"], each["owner"]) for each in listed
    ]
    assert True is (await images(verbs))[name]["pinned"]
    assert {"pins": []} == await verbs.pins(principal="uid:7")
    for wrong, kind in (
        (verbs.rmi(name), Pinned),
        (verbs.pin(pattern, principal="uid:7"), Denied),
        (verbs.unpin(pattern, principal="uid:7"), Denied),
        (verbs.unpin("localhost/**"), UsageError),
        (verbs.unpin("h.test/*"), PinNotFound),
        (verbs.pin("library/*"), PatternInvalid),
        (verbs.pin(pattern, name="x"), UsageError),
        (verbs.pin(name, lasting="1h", until="2999-01-31"), UsageError),
        (verbs.pin(name, until="1999-01-31"), UsageError),
        (verbs.pin(name, until="soon"), UsageError),
    ):
        with pytest.raises(kind):
            await wrong
    await verbs.unpin(pattern)
    await verbs.rmi(name)
    assert {} == await images(verbs)
