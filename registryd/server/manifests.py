"""Manifests by tag and digest, and the list of tags.

Distribution specification 1.1, "Pulling manifests", "Listing Tags", "Warnings".

Invariants:
- a manifest is given byte for byte as it came, with its own media type and digest;
- one that is given without its registry's word says so, by a Warning header.
"""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import quote

from aiohttp import web

from cache.content import Digest
from cache.errors import CacheError
from registryd.oci.errors import NameUnknown, RegistryError, UsageError
from registryd.oci.reference import Reference
from registryd.oci.routes import ManifestRoute, TagsRoute
from registryd.ports import Remote, TransportError
from registryd.remote.offline import SilentRegistry
from registryd.server.account import account_of
from registryd.server.budget import OverBudget
from registryd.server.context import admitted, caller_of, challenged, context_of, located
from registryd.server.warnings import warning_header
from registryd.transfer.library import LOCALHOST, Found, Library
from registryd.transfer.tags import FAILURES

#: Seconds in which a runtime that can ask elsewhere (it says ``ns``) gets a manifest or a no.
BUDGET = 3.0
#: The same for every other client: those of a mirror ask elsewhere too, the rest are told so.
PATIENCE = 4.0
#: Seconds in which a blob that could not be had is tried before its image is begun again.
TRIAL = 2.0
_NUMBER = re.compile("[0-9]{1,9}")


async def serve_manifest(request: web.Request, route: ManifestRoute) -> web.StreamResponse:
    """The manifest of a tag or digest. Raises ManifestUnknown and what upstream says."""
    reference = located(request, route.repository, route.target)
    try:
        async with context_of(request).budgets.wait(
            request, reference, BUDGET, others=PATIENCE
        ) as wait:
            found = await _find(request, reference)
            wait.answered = found.answered
            wait.failed = found.stale is not None and found.stale.cause in FAILURES
    except OverBudget as late:
        found = await _find_held(request, reference, late)
    await _refuse_broken(request, reference, found)
    document = found.document
    headers = {
        "Content-Type": document.media_type,
        "Docker-Content-Digest": str(document.digest),
        "ETag": f'"{document.digest}"',
    }
    account = account_of(request)
    account.found("manifest", found.way)
    account.digest = document.digest
    if request.method == "GET":
        account.sent = len(document.raw)
        account.begins()
    if found.stale is not None:
        account.stale = found.stale.cause
        headers["Warning"] = warning_header(str(found.stale))
    return web.Response(headers=headers, body=document.raw)


async def _find(request: web.Request, reference: Reference) -> Found:
    """The manifest, for a caller who may read it.

    A tag of which something is missing here is asked for anew while its registry fails: a client
    is better told no at once than in the middle of the image.
    """
    context = context_of(request)
    library = context.node.library
    remote = await admitted(request, reference, lambda r: library.tags.prove(r, reference))
    failing = context.budgets.failing(reference.registry)
    fresh = failing and await library.tags.is_doubtful(reference)
    return await library.find(remote, reference, fresh=fresh)


async def _find_held(request: web.Request, reference: Reference, late: OverBudget) -> Found:
    """What is given when a registry takes too long: the same as when it cannot be reached."""
    silent = SilentRegistry(lambda: TransportError(str(late)))
    await admitted(request, reference, lambda _: silent.resolve(reference))
    return await context_of(request).node.library.find(silent, reference)


async def _refuse_broken(request: web.Request, reference: Reference, found: Found) -> None:
    """Try a blob that could not be had before its image is begun again, for a client that gets
    the blobs here or not at all (it says no ``ns``).

    Raises TransportError when the blob still cannot be had.
    """
    context = context_of(request)
    broken, library = context.budgets.broken, context.node.library
    digest = broken.by(reference.name)
    if "ns" in request.query or digest is None:
        return
    if not await library.tags.whole(reference.name, found.document.descriptor):
        try:
            await _try(library, await admitted(request, reference), reference, digest)
        except (TransportError, RegistryError, CacheError) as error:
            broken.note(reference.name, digest)
            raise TransportError(
                f"blob {digest} of {reference.name} could not be had lately, nor now: {error}"
            ) from error
    broken.forget(reference.name, digest)


async def _try(
    library: Library, remote: Remote | None, reference: Reference, digest: Digest
) -> None:
    """Fetch a blob, as far as it comes in ``TRIAL`` seconds. Raises why none of it comes."""
    flight = await library.blob(remote, reference, digest)
    if flight is None:
        return
    try:
        async with asyncio.timeout(TRIAL):
            await flight.landed()
    except TimeoutError:
        if not flight.received:
            raise TransportError(f"nothing came for {TRIAL:g} seconds") from None


async def list_tags(request: web.Request, route: TagsRoute) -> web.StreamResponse:
    """The tags of a repository, sorted, in pages of ``n``. Raises NameUnknown."""
    reference = located(request, route.repository)
    caller, name = caller_of(request), reference.name
    with challenged(request, reference):
        found = await context_of(request).operations.tags(
            str(reference), login=caller.login, principal=caller.principal
        )
    tags = found["tags"]
    assert isinstance(tags, list)  # noqa: S101 (what Operations.tags gives)
    repositories = context_of(request).node.store.repositories
    if not tags and reference.registry == LOCALHOST and not await repositories.exists(name):
        raise NameUnknown(f"{name} is not in this registry", status=404)
    return page(request, route.repository, "tags", tags, f"/v2/{quote(route.repository)}/tags/list")


def page_limit(request: web.Request) -> int | None:
    """How many entries of a list are asked for (``n``), None: all. Raises UsageError."""
    limit = request.query.get("n", "")
    if limit and not _NUMBER.fullmatch(limit):
        raise UsageError(f"n={limit[:20]}: write a whole number of at most nine digits")
    return int(limit) if limit else None


def page(
    request: web.Request, name: str, member: str, items: list[str], path: str
) -> web.StreamResponse:
    """One page of a sorted list, with the Link to the next (spec, "Listing Tags")."""
    last, limit = request.query.get("last", ""), page_limit(request)
    rest = [item for item in items if item > last]
    shown = rest[:limit]
    body: dict[str, object] = {member: shown}
    if name:
        body = {"name": name, **body}
    headers = {}
    if shown and len(shown) < len(rest):
        ns = f"&ns={quote(request.query['ns'])}" if "ns" in request.query else ""
        headers["Link"] = f'<{path}?n={limit}&last={quote(shown[-1])}{ns}>; rel="next"'
    return web.Response(
        headers=headers, body=json.dumps(body).encode(), content_type="application/json"
    )
