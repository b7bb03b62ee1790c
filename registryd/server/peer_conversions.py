"""The route by which other nodes have this one make an image one file, for all of the cluster.

``POST /peer/v1/conversions`` with ``repository``, ``manifest`` and ``recipe``; the answer is a
stream of lines: how far it is, and in the end the ``manifest`` of what was made, or why it
``failed``.

Invariants:
- it is made here: no other node is asked, whatever this one thinks of who ranks first;
- the image is read by the asker's leave: what is not here is fetched with the token that it lends;
- who hangs up waits no more, and with the last one who waits the work ends.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Final

from aiohttp import web

from cache.content import Digest
from cache.errors import Fault
from registryd.conversion.conversions import Conversions, Converted
from registryd.conversion.elsewhere import PATH
from registryd.conversion.recipe import Recipe
from registryd.oci.errors import UsageError
from registryd.oci.manifest import Manifest
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.server.account import account_of
from registryd.server.context import context_of
from registryd.server.peer_asks import reference_of, remote_for, token_of
from registryd.server.peer_sending import EXCHANGE
from registryd.transfer.groups import task_group

#: Seconds between two lines: news, and a sign of life.
BEAT: Final = 2.0
#: A request is a name, a digest and a few words.
BODY_LIMIT: Final = 16 << 10


def add_routes(app: web.Application) -> None:
    """Put the route into the application of the peers' listener."""
    app.router.add_post(PATH, _convert)


async def _convert(request: web.Request) -> web.StreamResponse:
    exact, recipe = await _asked(request)
    account = account_of(request)
    account.reference, account.digest = exact, exact.digest or ""
    node = context_of(request).node
    remote = remote_for(request, exact, token_of(request.headers))
    with request.app[EXCHANGE].answering():
        manifest = await node.library.document(remote, exact, remember=False)
    if not isinstance(manifest, Manifest) or node.conversions is None:
        raise UsageError(f"{exact} is no image")
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    work = _Work(node.conversions, remote, exact, manifest, recipe)
    async with task_group() as group:  # an asker that hangs up ends it by ConnectionError
        task = group.create_task(work.run())
        while not task.done():
            await asyncio.wait([task], timeout=BEAT)
            await response.write(json.dumps(work.said).encode() + b"\n")
    with suppress(ConnectionError):
        await response.write_eof()
    return response


class _Work:
    """A conversion for another node; ``said`` is what there is to say of it now."""

    def __init__(
        self,
        conversions: Conversions,
        remote: Remote | None,
        exact: Reference,
        manifest: Manifest,
        recipe: Recipe,
    ) -> None:
        self.said: dict[str, object] = {"offset": 0, "total": 0}
        self._asked = (remote, exact, manifest, recipe)
        self._conversions = conversions

    async def run(self) -> None:
        try:
            done: Converted = await self._conversions.converted(*self._asked, self._tell, here=True)
        except Fault as fault:
            self.said = {"failed": str(fault)}
        else:
            self.said = {"manifest": done.document.raw.decode()}

    def _tell(self, offset: int, total: int) -> None:
        self.said = {"offset": offset, "total": total}


async def _asked(request: web.Request) -> tuple[Reference, Recipe]:
    """Which image is meant, and what it is to be made. Raises UsageError, DigestInvalid."""
    body = b""
    while len(body) <= BODY_LIMIT and (piece := await request.content.read(BODY_LIMIT)):
        body += piece
    try:
        given = json.loads(body[: BODY_LIMIT + 1])
        repository, manifest, recipe = (given[key] for key in ("repository", "manifest", "recipe"))
    except (ValueError, TypeError, LookupError, RecursionError):
        raise UsageError(f"{PATH} needs a repository, a manifest and a recipe") from None
    digest = Digest.parse(str(manifest))
    return reference_of(str(repository), str(digest)), Recipe.parse(str(recipe))
