"""Who may read what: proofs, grants, and their time."""

from typing import cast

import pytest

from cache.store import BlobStore
from registryd.access import ANYBODY, EVERYBODY, OWNER, Access
from registryd.oci.errors import Denied, ManifestUnknown, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.ports import Remote, Remotes
from registryd.secrets import NOBODY
from tests.fakes.door import ANN, NAME, TTL, Door, Knocking, Time, login_of, user


async def test_own_repositories_are_open(access: Access, door: Door) -> None:
    """The node's own registry has no Remote and asks nobody."""
    assert await access.admit(user(1), Reference("localhost", "app", "1")) is None
    assert [] == door.tried


async def test_the_owner_needs_no_grant(access: Access, door: Door) -> None:
    """The process's own user gets the Remote at once."""
    assert await access.admit(OWNER, NAME) is not None
    assert [] == door.tried


async def test_who_is_refused_gets_nothing(access: Access, door: Door) -> None:
    """A caller whom the registry refuses is refused here, each time anew."""
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await access.admit(user(1), NAME)
    assert [NOBODY, NOBODY] == door.tried


async def test_a_login_s_grant_is_its_caller_s_alone(access: Access, door: Door) -> None:
    """What one user has proven with a login does not let another in."""
    door.opens_to = (ANN,)
    await access.admit(user(1, ANN), NAME)
    with pytest.raises(Unauthorized):
        await access.admit(user(2), NAME)
    # The first is known now, whatever they send.
    await access.admit(user(1), NAME)

    assert [ANN, NOBODY] == door.tried


async def test_what_needs_no_login_is_for_all(access: Access, door: Door) -> None:
    """One who is let in without a login opens the repository to everybody."""
    door.opens_to = (NOBODY,)
    await access.admit(user(1), NAME)
    await access.admit(user(2), NAME)

    assert [NOBODY] == door.tried


async def test_a_grant_is_for_one_repository(access: Access, door: Door) -> None:
    """A proof for one repository says nothing of another, of any tag of the same."""
    door.opens_to = (ANN,)
    await access.admit(user(1, ANN), NAME)
    await access.admit(user(1), NAME.with_tag("2"))
    door.opens_to = ()

    with pytest.raises(Unauthorized):
        await access.admit(user(1), Reference("ghcr.io", "team/other", "1"))


async def test_a_grant_ends(access: Access, door: Door, time: Time) -> None:
    """After its time the proof is made anew."""
    door.opens_to = (ANN,)
    await access.admit(user(1, ANN), NAME)
    time.now += TTL - 1
    await access.admit(user(1, ANN), NAME)
    within = len(door.tried)
    time.now += 2
    await access.admit(user(1, ANN), NAME)

    assert (1, 2) == (within, len(door.tried))


async def test_another_probe(access: Access, door: Door) -> None:
    """What proves access can be another request than to resolve; its refusal is passed on."""

    async def refused(remote: Remote) -> None:
        raise ManifestUnknown("not there", status=404)

    with pytest.raises(ManifestUnknown):
        await access.admit(user(1), NAME, refused)
    with pytest.raises(ManifestUnknown):
        await access.admit(user(1), NAME, refused)
    assert [] == door.tried


async def test_a_registry_that_is_not_allowed(access: Access) -> None:
    """Not even the owner gets a Remote that the configuration forbids."""
    with pytest.raises(Denied):
        await access.admit(OWNER, Reference("denied.example", "app", "1"))


@pytest.mark.parametrize("opens", [True, False])
async def test_what_the_owner_pulled_is_opened_where_it_is_public(
    access: Access, door: Door, opens: bool
) -> None:
    """After the owner's pull others may read while the registry is away, if it needs no login."""
    door.opens_to = (NOBODY,) if opens else ()
    await access.open_to_all(cast(Remote, Knocking(door, None)), NAME)
    door.away = Unauthorized("away", status=503)
    try:
        await access.admit(user(1), NAME)
        admitted = True
    except Unauthorized:
        admitted = False

    assert opens == admitted


async def test_a_command_s_own_node_opens_nothing(store: BlobStore, door: Door) -> None:
    """What a command proves with its user's logins is not opened to others by it."""
    door.opens_to = (NOBODY,)
    private = Access(store, cast(Remotes, door), ttl=TTL, for_others=False)
    await private.open_to_all(cast(Remote, Knocking(door, None)), NAME)

    assert not await store.grants.covers(NAME.name, ("*",))


async def test_what_was_public_stays_so_while_its_registry_is_away(
    access: Access, door: Door, time: Time
) -> None:
    """A grant for all that ran out is good enough when its registry cannot be asked."""
    door.opens_to = (NOBODY,)
    await access.admit(user(1), NAME)
    time.now += TTL + 1
    door.away = RegistryError("busy", status=503)

    assert await access.admit(user(2), NAME) is not None


async def test_a_private_grant_ends_also_while_its_registry_is_away(
    access: Access, door: Door, time: Time
) -> None:
    """What one login has proven is never stretched."""
    door.opens_to = (ANN,)
    await access.admit(user(1, ANN), NAME)
    time.now += TTL + 1
    door.away = RegistryError("busy", status=503)

    with pytest.raises(RegistryError, match="busy"):
        await access.admit(user(1, ANN), NAME)


async def test_a_clear_no_ends_what_was_public(access: Access, door: Door, time: Time) -> None:
    """A registry that refuses is believed, whatever it said before."""
    door.opens_to = (NOBODY,)
    await access.admit(user(1), NAME)
    time.now += TTL + 1
    door.opens_to = ()

    with pytest.raises(Unauthorized):
        await access.admit(user(2), NAME)
    door.away = RegistryError("busy", status=503)
    with pytest.raises(RegistryError, match="busy"):
        await access.admit(user(2), NAME)


async def test_a_missing_tag_does_not_end_what_was_public(
    access: Access, door: Door, time: Time
) -> None:
    """That something is not there says nothing of who may read the rest."""
    door.opens_to = (NOBODY,)
    await access.admit(user(1), NAME)
    time.now += TTL + 1
    door.away = ManifestUnknown("none", status=404)
    with pytest.raises(ManifestUnknown):
        await access.admit(user(1), NAME.with_tag("none"))
    door.away = RegistryError("busy", status=503)

    assert await access.admit(user(2), NAME) is not None


async def test_what_is_no_proof_is_not_remembered(access: Access, door: Door) -> None:
    """Who may do something else there may not therefore read."""
    door.opens_to = (NOBODY,)
    await access.admit(user(1), NAME, proves=False)

    assert not await access.may_read("uid:1", NAME.name)


async def test_a_login_is_used_for_its_caller(access: Access, door: Door) -> None:
    """Who sends a login is served with it, also where they are known or all may read."""
    door.opens_to = (ANN, NOBODY)
    remotes = [await access.admit(user(n, ANN), NAME) for n in (1, 1)]
    await access.admit(ANYBODY, NAME)
    remotes.append(await access.admit(user(2, ANN), NAME))

    assert [ANN] * 3 == [login_of(remote) for remote in remotes]


async def test_a_revoked_grant_ends(access: Access, door: Door, store: BlobStore) -> None:
    """After a revocation the proof is made anew; what was public does not outlive it either."""
    door.opens_to = (ANN,)
    await access.admit(user(1, ANN), NAME)
    await store.grants.add(NAME.name, EVERYBODY, -1)
    await store.grants.revoke(NAME.name)
    door.away = RegistryError("busy", status=503)
    for caller in (user(1, ANN), user(2)):
        with pytest.raises(RegistryError, match="busy"):
            await access.admit(caller, NAME)

    assert [] == await store.grants.all()
