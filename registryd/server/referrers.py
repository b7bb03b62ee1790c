"""What is attached to a manifest: signatures, software lists, and whatever else has a subject.

Distribution specification 1.1, "Listing Referrers". Invariants:
- the answer is always an index, empty for a subject that nothing is attached to, is not here, or
  never was: an artifact may be pushed before what it is attached to;
- a page has at most ``MANIFEST_LIMIT`` bytes, or one entry; the Link says where the next begins;
- other registries' lists are not kept here: their clients are told 404, upon which they look for
  the tag that stands in for the list.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode

from aiohttp import web

from cache.repositories import Page, Referrer
from registryd.oci.errors import NameUnknown, UsageError
from registryd.oci.manifest import MANIFEST_LIMIT
from registryd.oci.media_types import OCI_INDEX
from registryd.oci.routes import ReferrersRoute
from registryd.server.context import context_of, located
from registryd.server.manifests import page_limit
from registryd.transfer.library import LOCALHOST

#: Bytes of a descriptor without its annotations, at most: a sha512 digest, two media types, words.
_ENTRY = 1024
#: Entries in a page at most, so that the list of a much signed image cannot outgrow its limit.
_ENTRIES = 1024
#: What is left for annotations when a page is as long as it may be.
_ROOM = MANIFEST_LIMIT - _ENTRIES * _ENTRY


async def list_referrers(request: web.Request, route: ReferrersRoute) -> web.StreamResponse:
    """The manifests of this repository whose subject is this digest; ``artifactType`` filters.

    Raises NameUnknown for another registry's repository, UsageError for a bad ``n``.
    """
    repository = located(request, route.repository)
    if repository.registry != LOCALHOST:
        raise NameUnknown(
            f"{repository.name}: referrers are listed for localhost only; ask"
            f" {repository.registry} itself, or for the tag {str(route.digest).replace(':', '-')}",
            status=404,
        )
    wanted = request.query.get("artifactType") or None
    limit = page_limit(request)
    if limit == 0:
        raise UsageError("n=0: ask for one entry at least")
    found = await context_of(request).node.store.repositories.referrers(
        repository.name,
        route.digest,
        artifact_type=wanted,
        last=request.query.get("last", ""),
        limit=min(limit or _ENTRIES, _ENTRIES),
        room=_ROOM,
    )
    headers = {"Content-Type": OCI_INDEX}
    if wanted:
        headers["OCI-Filters-Applied"] = "artifactType"
    if found.more:
        headers["Link"] = f'<{_next(request, route, found)}>; rel="next"'
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_entry(referrer) for referrer in found.referrers],
    }
    return web.Response(headers=headers, body=json.dumps(index).encode())


def _entry(referrer: Referrer) -> dict[str, object]:
    manifest = referrer.descriptor
    entry: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": str(manifest.digest),
        "size": manifest.size,
    }
    if referrer.artifact_type:
        entry["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        entry["annotations"] = dict(referrer.annotations)
    return entry


def _next(request: web.Request, route: ReferrersRoute, found: Page) -> str:
    kept = {key: request.query[key] for key in ("n", "artifactType", "ns") if key in request.query}
    last = str(found.referrers[-1].descriptor.digest)
    return f"{route.path()}?{urlencode({**kept, 'last': last})}"
