"""A registry that is not asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from cache.content import Descriptor, Digest
from registryd.config import RegistryConfig
from registryd.oci.manifest import parse
from registryd.oci.reference import Reference
from registryd.ports import Offline, Pusher, Remote
from registryd.remote.offline import SilentRegistry
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, make_image
from tests.remote.conftest import OpenRemotes

APP = Reference("ghcr.io", "org/app", "1")
DIGEST = Digest.of(b"x")
CALLS: dict[str, Callable[[Remote], Any]] = {
    "ping": lambda r: r.ping(),
    "resolve": lambda r: r.resolve(APP),
    "fetch_manifest": lambda r: r.fetch_manifest(APP),
    "fetch_blob": lambda r: r.fetch_blob(APP, DIGEST),
    "blob_size": lambda r: r.blob_size(APP, DIGEST),
    "tags": lambda r: r.tags(APP),
    "rate_limit": lambda r: r.rate_limit(APP),
    "referrers": lambda r: r.referrers(APP, DIGEST),
    "catalog": lambda r: r.catalog(),
    "delete_manifest": lambda r: r.delete_manifest(APP),
    "delete_blob": lambda r: r.delete_blob(APP, DIGEST),
    "ask_push": lambda r: r.ask_push(APP),
    "standing": lambda r: r.standing(APP),
    "has_blob": lambda r: r.has_blob(APP, DIGEST),
    "mount_blob": lambda r: r.mount_blob(APP, DIGEST, "org/other"),
    "push_blob": lambda r: r.push_blob(APP, Descriptor("", DIGEST, 1), lambda: None),  # type: ignore[arg-type, return-value]
    "push_manifest": lambda r: r.push_manifest(APP, parse(make_image(), OCI_MANIFEST, None)),
    "note_subject": lambda r: r.note_subject(APP, parse(make_image(), OCI_MANIFEST, None)),
}


def test_every_method_is_tried() -> None:
    """The table above has the whole port."""
    port = {name for name in dir(Remote) if not name.startswith("_")}

    # Nothing is asked for a token where nothing will be asked with it.
    assert port == {*CALLS, "pull_token", "distrust"}
    assert {name for name, _ in inspect.getmembers(Pusher) if not name.startswith("_")} <= port


@pytest.mark.parametrize("name", CALLS)
async def test_every_method_says_why(name: str) -> None:
    """Each one fails at once, in the same words: what, and which setting."""
    remote = SilentRegistry.configured("ghcr.io")
    line = 'ghcr.io is offline by configuration ([registries."ghcr.io"] offline = true)'
    with pytest.raises(Offline) as caught:
        answer = CALLS[name](remote)
        if inspect.isawaitable(answer):
            await answer
        else:
            async with answer:
                pass

    assert (line, 6) == (str(caught.value), caught.value.exit_code)


async def test_nothing_is_sent(open_remotes: OpenRemotes, registry: FakeRegistry) -> None:
    """A registry that is configured so gets no request, and others do."""
    settings = RegistryConfig(plain_http=True, offline=True)
    remotes = await open_remotes(registries={registry.name: settings})
    with pytest.raises(Offline):
        await remotes.remote(registry.name).ping()

    assert [] == registry.requests


async def test_nobody_else_is_given_a_token() -> None:
    """Other nodes may still have what is wanted, so it is no error."""
    assert await SilentRegistry.configured("ghcr.io").pull_token(APP) is None
