"""Manifests by tag and digest, and the list of tags.

Distribution specification 1.1, "Pulling manifests", "Pushing Manifests", "Listing Tags".

Invariants:
- a manifest is given byte for byte as it came, with its own media type and digest;
- a pushed manifest is taken only when the repository has what it points to (manifests named by an
  index excepted: a sparse index is legal), and its tag is set last.
"""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import quote

from aiohttp import web

from cache.content import Descriptor
from registryd.oci.errors import (
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    UsageError,
)
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, Manifest, parse
from registryd.oci.reference import Reference, check_tag
from registryd.oci.routes import ManifestRoute, TagsRoute
from registryd.ports import TransportError
from registryd.server.context import admitted, caller_of, context_of, located
from registryd.server.uploads import refuse_push_elsewhere
from registryd.transfer.library import LOCALHOST

#: Seconds in which a runtime that can ask elsewhere (it says ``ns``) gets a manifest or a no.
BUDGET = 3.0
_NUMBER = re.compile("[0-9]{1,9}")


async def serve_manifest(request: web.Request, route: ManifestRoute) -> web.StreamResponse:
    """The manifest of a tag or digest. Raises ManifestUnknown and what upstream says."""
    reference = located(request, route.repository, route.target)
    try:
        async with asyncio.timeout(BUDGET if "ns" in request.query else None):
            remote = await admitted(request, reference)
            document = await context_of(request).node.library.document(remote, reference)
    except TimeoutError:
        raise TransportError(
            f"{reference.registry} did not answer for {reference} in {BUDGET:g} seconds"
        ) from None
    headers = {
        "Content-Type": document.media_type,
        "Docker-Content-Digest": str(document.digest),
        "ETag": f'"{document.digest}"',
    }
    return web.Response(headers=headers, body=document.raw)


async def put_manifest(request: web.Request, route: ManifestRoute) -> web.StreamResponse:
    """Take a manifest; pushed by digest, with the tags that the query lists.

    Raises ManifestInvalid, DigestMismatch, ManifestBlobUnknown, and UsageError for bad tags.
    """
    reference = located(request, route.repository, route.target)
    refuse_push_elsewhere(reference)
    tags = _tags(request, reference)
    if (request.content_length or 0) > MANIFEST_LIMIT:
        raise ManifestInvalid(f"{reference}: a manifest has at most {MANIFEST_LIMIT} bytes")
    raw = await request.content.read(MANIFEST_LIMIT + 1)
    while not request.content.at_eof() and len(raw) <= MANIFEST_LIMIT:
        raw += await request.content.read(MANIFEST_LIMIT + 1 - len(raw))
    document = parse(raw, request.headers.get("Content-Type"), reference.digest)
    library, store = context_of(request).node.library, context_of(request).node.store
    await _refuse_missing(request, reference, document)
    await library.keep(reference.name, document)
    for name in [reference.bare().with_tag(tag) for tag in tags] or [reference]:
        await store.tag(str(name), reference.name, document.descriptor)
    if isinstance(document, Index):
        await _unname_children(request, reference, document)
    headers = {
        "Location": f"/v2/{quote(route.repository)}/manifests/{document.digest}",
        "Docker-Content-Digest": str(document.digest),
    }
    if document.subject is not None:
        headers["OCI-Subject"] = str(document.subject.digest)
    if tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return web.Response(status=201, headers=headers)


def _tags(request: web.Request, reference: Reference) -> list[str]:
    """The tags that a push by digest sets, each once. Raises UsageError before anything is kept."""
    tags = list(dict.fromkeys(request.query.getall("tag", [])))
    if tags and reference.digest is None:
        raise UsageError(f"{reference}: ?tag= goes with a push by digest, not with one by tag")
    for tag in tags:
        check_tag(tag)
    return tags


async def _unname_children(request: web.Request, reference: Reference, index: Index) -> None:
    """Take away the names by digest under which an index's manifests came before it.

    The index keeps them from here on; left alone they would be listed as images, and outlive it.
    """
    store = context_of(request).node.store
    by_digest = {str(reference.with_digest(child.digest)) for child in index.children}
    for name in await store.names(reference.name):
        if name.name in by_digest:
            await store.untag(name.name)


async def _refuse_missing(request: web.Request, reference: Reference, document: Document) -> None:
    if not isinstance(document, Manifest):
        return
    missing = [c for c in document.children if not await _has(request, reference, c)]
    if missing:
        listed = ", ".join(str(child.digest) for child in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ManifestBlobUnknown(f"{reference}: {listed}{more} must be pushed first")


async def _has(request: web.Request, reference: Reference, child: Descriptor) -> bool:
    store = context_of(request).node.store
    blob = store.find(child.digest)
    if blob is None or not await store.is_member(reference.name, child.digest):
        return False
    if blob.size != child.size:
        raise ManifestInvalid(
            f"{reference}: {child.digest} has {blob.size} bytes, the manifest says {child.size}"
        )
    return True


async def delete_manifest(request: web.Request, route: ManifestRoute) -> web.StreamResponse:
    """Take a tag away, or a manifest with all its tags. Raises ManifestUnknown."""
    reference = located(request, route.repository, route.target)
    refuse_push_elsewhere(reference)
    store = context_of(request).node.store
    names = await store.names(reference.name)
    gone = [name for name in names if name.name == str(reference)]
    if reference.digest is not None:
        gone = [name for name in names if name.descriptor.digest == reference.digest]
    member = reference.digest and await store.drop_member(reference.name, reference.digest)
    if not gone and not member:
        raise ManifestUnknown(f"{reference} is not in this registry", status=404)
    for name in gone:
        await store.untag(name.name)
    # A manifest that no name meant is collected with the rest, unless an index keeps it.
    for root in {name.descriptor.digest for name in gone} | {reference.digest}:
        if root is not None:
            await store.remove(await store.closure(root))
    return web.Response(status=202)


async def list_tags(request: web.Request, route: TagsRoute) -> web.StreamResponse:
    """The tags of a repository, sorted, in pages of ``n``. Raises NameUnknown."""
    reference = located(request, route.repository)
    caller, name = caller_of(request), reference.name
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
