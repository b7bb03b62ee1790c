"""Images of a node made one file."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cache.content import Digest
from cache.store import BlobStore
from registryd.access import OWNER, Caller
from registryd.conversion.conversions import LONGEST
from registryd.conversion.recipe import Recipe
from registryd.conversion.report import converted, converting
from registryd.oci.errors import UsageError
from registryd.oci.manifest import Manifest
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations.asking import Asking
from registryd.operations.node import Node
from registryd.secrets import Login
from registryd.transfer import report as events
from registryd.transfer.pull import Request, pull
from registryd.transfer.report import Event, Report
from registryd.user_quotas import charged


class Converting(Asking):
    """Conversions. Every method raises Faults only."""

    _node: Node
    _store: BlobStore

    async def convert(
        self,
        reference: str,
        *,
        form: str = "squashfs",
        compat: str | None = None,
        plain: bool = False,
        platform: str | None = None,
        login: Login | None = None,
        principal: str = "",
        report: Report = events.silent,
    ) -> None:
        """Make an image one file, pulled first; tells the pull's events, then its own.

        The last one is ``done``, and names the blob. What was made before is not made again.
        """
        recipe = Recipe.of(form, compat, dressed=not plain)
        await self._convert(reference, recipe, platform, Caller(principal, login), report)

    async def converted(
        self,
        reference: str,
        *,
        recipe: str,
        platforms: Sequence[str] = (),
        report: Report = events.silent,
    ) -> None:
        """The same for the owner, by the text of a recipe, for each of these platforms."""
        for platform in platforms or (None,):
            await self._convert(reference, Recipe.parse(recipe), platform, OWNER, report)

    async def _convert(
        self, reference: str, recipe: Recipe, platform: str | None, caller: Caller, report: Report
    ) -> None:
        began, conversions = time.monotonic(), self._node.conversions
        assert conversions is not None  # noqa: S101 (a node that has operations has them)
        name, wanted = Reference.parse(reference), Platform.parse(platform) if platform else None

        def tell(event: Event) -> None:
            if event["event"] != "done":  # a pull's: ours comes yet
                report(event)

        async with self._store.lease(LONGEST) as lease:
            with self._told(name, caller, report):
                remote = await self._admit(name, caller.login, caller.principal)
                platforms = [wanted] if wanted else []
                jobs, host = self._node.jobs, self._node.host
                request = Request(
                    name,
                    remote,
                    host,
                    platforms,
                    jobs=jobs,
                    fresh=False,
                    owner=charged(caller.principal),
                )
                root = await pull(self._node.library, self._store, request, tell)
                await lease.hold(root.digest)
                document = await self._select(remote, name, root, wanted or self._node.host)
                if not isinstance(document, Manifest):
                    raise UsageError(f"{name} is no image")
                async with self._counted(caller.principal, root.digest, document, recipe):
                    done = await conversions.converted(
                        remote,
                        name.with_digest(document.digest),
                        document,
                        recipe,
                        lambda at, total: report(converting(document.digest, recipe, at, total)),
                    )
        if caller == OWNER:
            await self._node.access.open_to_all(remote, name)
        seconds = time.monotonic() - began
        digest, made = document.digest, done.made
        report(converted(name, digest, recipe, done.blob, made=made, seconds=seconds))

    @asynccontextmanager
    async def _counted(
        self, principal: str, root: Digest, document: Manifest, recipe: Recipe
    ) -> AsyncIterator[None]:
        """Let what is made count for its user; until it is there, as what it is made of.

        Raises QuotaExceeded.
        """
        conversions, quotas, owner = (
            self._node.conversions,
            self._store.room.quotas,
            charged(principal),
        )
        assert conversions is not None  # noqa: S101 (a node that has operations has them)
        if not owner or await conversions.find(document.digest, recipe) is not None:
            yield
            return
        made = Digest.of(f"{document.digest} by {recipe}".encode())  # it has no digest yet
        size = sum(layer.size for layer in document.layers)
        async with quotas.coming(owner, {**await self._store.closure(root), made: size}):
            yield
            await quotas.hold(owner, root)
