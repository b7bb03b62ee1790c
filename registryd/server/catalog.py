"""The list of the node's own repositories.

Docker Registry HTTP API V2, "Catalog"; the distribution specification reserves the path. Invariant:
- only ``localhost`` is listed: what else is cached here is its users' own affair.
"""

from __future__ import annotations

from aiohttp import web

from registryd.oci.errors import Unsupported
from registryd.oci.routes import Catalog
from registryd.server.context import context_of
from registryd.server.manifests import page
from registryd.transfer.library import LOCALHOST


async def list_repositories(request: web.Request, route: Catalog) -> web.StreamResponse:
    """The repositories that have a manifest, as this listener's clients call them, in pages.

    Raises Unsupported for another registry's.
    """
    context = context_of(request)
    ns = request.query.get("ns", LOCALHOST)
    if ns != LOCALHOST:
        raise Unsupported(f"the repositories of {ns} are listed by {ns} alone: ask there")
    found = await context.node.store.repositories.below(f"{LOCALHOST}/")
    if context.default_registry == LOCALHOST or "ns" in request.query:
        found = [name.removeprefix(f"{LOCALHOST}/") for name in found]
    return page(request, "", "repositories", found, route.path())
