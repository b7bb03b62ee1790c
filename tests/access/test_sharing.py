"""What the node's own way into a registry opens to others, and what a push does."""

from pathlib import Path
from typing import cast

import pytest

from cache.store import BlobStore
from registryd.access import ANYBODY, OWNER, SHARED, Access, Caller, Sharing
from registryd.config import RegistryConfig
from registryd.oci.errors import Denied, RegistryError, Unauthorized
from registryd.ports import Remote, Remotes
from registryd.secrets import NOBODY, Login, Secret
from tests.fakes.door import ANN, NAME, TTL, Door, Knocking, Time, login_of, user


async def test_the_node_s_own_login_proves_nothing_for_others(access: Access, door: Door) -> None:
    """Where only the node's login is let in, nobody else is: neither asked nor after a pull."""
    for caller in (user(1), ANYBODY, Caller("login:x", NOBODY)):
        with pytest.raises(Unauthorized):
            await access.admit(caller, NAME)
    await access.open_to_all(cast(Remote, Knocking(door, None)), NAME)

    assert {NOBODY} == set(door.tried)
    assert not await access.may_read("uid:1", NAME.name)


async def test_what_is_public_is_fetched_with_the_node_s_login(access: Access, door: Door) -> None:
    """What nobody in particular may read is proven without a login, and fetched with ours."""
    door.opens_to = (NOBODY,)
    first = await access.admit(ANYBODY, NAME)
    again = await access.admit(user(1), NAME)

    assert [NOBODY] == door.tried
    assert (None, None) == (login_of(first), login_of(again))


@pytest.fixture
def sharing(store: BlobStore, door: Door) -> Access:
    """A node that gives what its login may read to all."""
    return Access(store, cast(Remotes, door), ttl=TTL, sharing=Sharing(frozenset(["ghcr.io"])))


async def test_a_shared_login_proves_for_everybody(
    sharing: Access, door: Door, store: BlobStore
) -> None:
    """With share_login the node's login opens to all, and nobody else has to be asked."""
    await sharing.admit(user(1), NAME)
    await sharing.admit(user(2), NAME)

    assert [None] == door.tried
    assert await sharing.may_read("anonymous", NAME.name)


async def test_sharing_ends_with_its_configuration(
    sharing: Access, access: Access, door: Door, time: Time
) -> None:
    """What the node's login has opened is closed when it is no longer shared: at once, and also
    while the registry is away."""
    await sharing.admit(user(1), NAME)
    door.away = RegistryError("busy", status=503)
    with pytest.raises(RegistryError):
        await access.admit(user(1), NAME)

    assert not await access.may_read("uid:1", NAME.name)


async def test_what_was_shared_stays_so_while_its_registry_is_away(
    sharing: Access, door: Door, time: Time
) -> None:
    """A shared grant that ran out is good enough when its registry cannot be asked."""
    await sharing.admit(user(1), NAME)
    time.now += TTL + 1
    door.away = RegistryError("busy", status=503)

    assert await sharing.admit(user(2), NAME) is not None


async def test_a_shared_login_opens_what_the_owner_pulled(sharing: Access, door: Door) -> None:
    """After the owner's pull all may read, by the same login."""
    await sharing.open_to_all(cast(Remote, Knocking(door, None)), NAME)

    assert await sharing.may_read("uid:1", NAME.name)


@pytest.mark.parametrize(
    "entry",
    [
        RegistryConfig(client_cert=Path("/c"), client_key=Path("/k")),
        RegistryConfig(endpoint="unix:///run/other.sock"),
    ],
    ids=["certificate", "socket"],
)
async def test_a_connection_that_is_a_login_proves_nothing(
    store: BlobStore, door: Door, entry: RegistryConfig
) -> None:
    """Where the node is known by its certificate or its user, any login would seem to do: none is
    tried, and the owner alone reads, unless the configuration shares it."""
    door.opens_to = (NOBODY, ANN)
    closed = Access(store, cast(Remotes, door), ttl=TTL, sharing=Sharing.of({"ghcr.io": entry}))
    for caller in (user(1), user(1, ANN), ANYBODY):
        with pytest.raises(Denied):
            await closed.admit(caller, NAME)

    assert [] == door.tried
    assert await closed.admit(OWNER, NAME) is not None


async def test_nobody_pushes_by_the_node_s_way_there(store: BlobStore, door: Door) -> None:
    """Also where that was found in other programs' files, and is shared for reading."""
    door.knows = True
    shared = Sharing(shared=frozenset({"ghcr.io"}))
    access = Access(store, cast(Remotes, door), ttl=TTL, sharing=shared)
    with pytest.raises(Denied, match="the node's owner alone can push there"):
        access.pusher(user(1, ANN), NAME)

    assert access.pusher(OWNER, NAME) is not None


def test_sharing_is_read_from_the_configuration() -> None:
    """Only what says share_login is shared; a shared registry is not closed."""
    pair = {"client_cert": Path("/c"), "client_key": Path("/k")}
    found = Sharing.of(
        {
            "a": RegistryConfig(share_login=True),
            "b": RegistryConfig(),
            "c": RegistryConfig(**pair),  # type: ignore[arg-type]
            "d": RegistryConfig(**pair, share_login=True),  # type: ignore[arg-type]
        }
    )

    assert Sharing(frozenset("ad"), frozenset("c"), frozenset("cd")) == found


async def test_who_pushed_reads_by_a_proof(access: Access, door: Door) -> None:
    """A push that went through opens nothing by itself: the pusher's login is asked to read."""
    door.opens_to = (ANN,)
    await access.pushed(user(1, ANN), NAME)
    await access.pushed(user(2, Login("push", Secret("only"))), NAME)
    opened = [await access.may_read(f"uid:{n}", NAME.name) for n in (1, 2)]

    assert [True, False] == opened


async def test_what_the_owner_pushed_is_opened_where_it_is_public(
    access: Access, door: Door
) -> None:
    """After the owner's push all may read what needs no login, and nothing else."""
    door.opens_to = (NOBODY,)
    await access.pushed(OWNER, NAME)

    assert (True, False) == (
        await access.may_read("uid:1", NAME.name),
        await access.may_read("uid:1", "ghcr.io/team/other"),
    )


async def test_grants_for_all_have_names_of_their_own(sharing: Access, store: BlobStore) -> None:
    """A list of grants tells what is public from what the node's login opens."""
    await sharing.admit(user(1), NAME)

    assert [SHARED] == [grant.principal for grant in await store.grants.all()]
