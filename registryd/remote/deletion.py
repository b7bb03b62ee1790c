"""Taking things away in a registry (distribution specification 1.1, "Content Management").

Invariants:
- a DELETE is sent for the very tag or digest that was named: never is one turned into the other;
- what is gone already is a success;
- a registry that deletes nothing says so as Unsupported, whatever status it has chosen for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from cache.content import Digest
from registryd.oci.challenge import EVERYTHING
from registryd.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    RegistryError,
    Unauthorized,
    Unsupported,
)
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute, ManifestRoute
from registryd.remote.exchange import Call, Exchange, scope

#: What tokens are asked for, one after the other. Some token servers know no action ``delete``,
#: and some registries want it; others want everything.
ACTIONS = (frozenset({"pull", "push", "delete"}), frozenset({EVERYTHING}))
#: Those of Quay's kind cannot parse ``delete``.
WITHOUT_DELETE = ("quay.io",)
#: How a deletion is confirmed.
DONE = (200, 202, 204)


async def delete_manifest(exchange: Exchange, reference: Reference) -> bool:
    """Take a tag away, or with a digest a manifest with all its tags; False: it was not there.

    Raises Unsupported, Unauthorized, Denied, RateLimited, RegistryError, TransportError.
    """
    name = reference.repository
    path = ManifestRoute(name, reference.target).path()
    return await _delete(exchange, path, name, f"cannot delete {reference}", ManifestUnknown)


async def delete_blob(exchange: Exchange, repository: Reference, digest: Digest) -> bool:
    """Take a blob away; False: it was not there. Raises as ``delete_manifest`` does."""
    name = repository.repository
    what = f"cannot delete blob {digest} of {repository.name}"
    return await _delete(exchange, BlobRoute(name, digest).path(), name, what, BlobUnknown)


async def _delete(
    exchange: Exchange, path: str, name: str, what: str, absent: type[RegistryError]
) -> bool:
    choices = ACTIONS[1:] if exchange.registry.endswith(WITHOUT_DELETE) else ACTIONS
    return await _with_one_of(exchange, Call("DELETE", path, what, name), choices, absent)


async def _with_one_of(
    exchange: Exchange,
    call: Call,
    choices: Sequence[frozenset[str]],
    absent: type[RegistryError],
) -> bool:
    for left, actions in zip(reversed(range(len(choices))), choices, strict=True):
        try:
            return await _once(exchange, call, actions, absent)
        except (Unauthorized, Denied) as error:
            # Only a registry that gives tokens could think otherwise of other actions.
            if not left or error.status not in (400, 401, 403):
                raise
    raise AssertionError("the last choice returns or raises")


async def _once(
    exchange: Exchange, call: Call, actions: frozenset[str], absent: type[RegistryError]
) -> bool:
    call = Call(
        "DELETE", call.target, call.what, call.repository, (scope(call.repository, actions),)
    )
    async with exchange.send(call) as answer:
        if answer.status in DONE:
            return True
        refused = await exchange.refusal(answer, call.what, absent)
    if isinstance(refused, Unsupported) or (absent is ManifestUnknown and answer.status == 400):
        # distribution 2 takes the tag for a digest that is written wrongly: 400 DIGEST_INVALID.
        raise Unsupported(
            f"{call.what}: {exchange.registry} does not delete this (deletion is switched off"
            f" there, or not by tag; it says {refused.status})",
            status=refused.status,
            entries=refused.entries,
        )
    if answer.status == 404:
        return False
    raise refused
