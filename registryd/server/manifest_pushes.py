"""Taking manifests in: by tag and by digest, and taking them out again.

Distribution specification 1.1, "Pushing Manifests", "Deleting manifests".

Invariants:
- a pushed manifest is taken only when the repository has what it points to (manifests named by an
  index excepted: a sparse index is legal), and its tag is set last;
- whether another registry's repository has what a manifest points to is that registry's to say:
  it gets the manifest and its tags first, and what it does not take is not kept here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from aiohttp import web

from cache.content import Descriptor
from registryd.oci.errors import (
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    UsageError,
)
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, Manifest, parse
from registryd.oci.reference import Reference, check_tag
from registryd.oci.routes import ManifestRoute
from registryd.server.account import account_of
from registryd.server.context import CAUSE, caller_of, challenged, context_of, located
from registryd.server.errors import refusal_response
from registryd.server.uploads import PUSH, pushed_to, refuse_delete_elsewhere
from registryd.transfer.push_through import push_manifest
from registryd.user_quotas import charged


async def put_manifest(request: web.Request, route: ManifestRoute) -> web.StreamResponse:
    """Take a manifest; pushed by digest, with the tags that the query lists.

    Raises ManifestInvalid, DigestMismatch, ManifestBlobUnknown, UsageError for bad tags, and what
    another registry says when it does not take it.
    """
    reference = located(request, route.repository, route.target)
    account_of(request).reference = reference
    tags = _tags(request, reference)
    raw = await _read(request)
    if raw is None:
        return _too_large(request, reference)
    document = parse(raw, request.headers.get("Content-Type"), reference.digest)
    account_of(request).digest = document.digest
    remote, listed = pushed_to(request, reference), True
    async with _counted(request, document):
        if remote is None:
            await _refuse_missing(request, reference, document)
        else:
            with challenged(request, reference, PUSH):
                listed = await push_manifest(remote, reference, document, tags)
        await _keep(request, reference, document, tags)
    if remote is not None:
        node = context_of(request).node
        await node.access.pushed(caller_of(request), reference)
    return _created(route, document, tags, listed)


@asynccontextmanager
async def _counted(request: web.Request, document: Document) -> AsyncIterator[None]:
    """Let an image that has no name here yet count for its user. Raises QuotaExceeded.

    That its manifest is here says nothing: it can have been pushed as a blob before.
    """
    store, owner = context_of(request).node.store, charged(caller_of(request).principal)
    if not owner or await store.room.quotas.is_found(document.digest):
        yield
        return
    new = {each.digest: each.size for each in (document.descriptor, *document.children)}
    async with store.room.quotas.coming(owner, new):
        yield
        await store.room.quotas.hold(owner, document.digest)


async def _read(request: web.Request) -> bytes | None:
    """The body; None when it is longer than a manifest may be."""
    if (request.content_length or 0) > MANIFEST_LIMIT:
        return None
    raw = await request.content.read(MANIFEST_LIMIT + 1)
    while not request.content.at_eof() and len(raw) <= MANIFEST_LIMIT:
        raw += await request.content.read(MANIFEST_LIMIT + 1 - len(raw))
    return raw if len(raw) <= MANIFEST_LIMIT else None


def _too_large(request: web.Request, reference: Reference) -> web.StreamResponse:
    """The one refusal whose status says more than its code (spec, "Pushing Manifests")."""
    fault = ManifestInvalid(
        f"{reference}: this manifest is too large, it may have {MANIFEST_LIMIT} bytes"
    )
    response = refusal_response(fault, request)
    response.set_status(413)
    response.headers[CAUSE] = str(fault)
    return response


async def _keep(
    request: web.Request, reference: Reference, document: Document, tags: list[str]
) -> None:
    """Store a manifest under its names; they count as looked up just now."""
    library, store = context_of(request).node.library, context_of(request).node.store
    await library.keep(reference.name, document)
    for name in [reference.bare().with_tag(tag) for tag in tags] or [reference]:
        await store.tag(str(name), reference.name, document.descriptor)
    if isinstance(document, Index):
        await _unname_children(request, reference, document)


def _created(
    route: ManifestRoute, document: Document, tags: list[str], listed: bool
) -> web.StreamResponse:
    """``listed``: whether the subject's referrers show it; a client sees to that itself if not."""
    headers = {
        "Location": f"/v2/{quote(route.repository)}/manifests/{document.digest}",
        "Docker-Content-Digest": str(document.digest),
    }
    if document.subject is not None and listed:
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
    refuse_delete_elsewhere(reference)
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
            await store.remove(await store.closure(root, made=True))
    return web.Response(status=202)
