"""Copies done in this process, with the user's own credentials: between any two places.

Invariants:
- the node cache is one more registry behind the daemon's socket where there is a daemon, and
  a node opened in this process where there is none: what writes to a root is one process;
- what the cache does not hold of an image that is read from it, it fetches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import uvloop

from registryd.cli.backend import Backend, Event, Report
from registryd.cli.command import Context
from registryd.cli.logins import login_for
from registryd.cli.own_names import OWN_REGISTRY, check_own_name
from registryd.cli.platforms import own
from registryd.cli.remotes import open_remotes
from registryd.cli.settings import settings
from registryd.images.transports import ImageLocation
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations import Node
from registryd.ports import Remote, Sink, Source
from registryd.secrets import Login
from registryd.services import open_node
from registryd.transfer.cached import CachedSink, CachedSource
from registryd.transfer.copy import copy_image
from registryd.transfer.endpoints import RegistrySink, RegistrySource
from registryd.transfer.report import copied

DEFAULT_JOBS = 4


def copy(
    context: Context,
    source: ImageLocation,
    target: ImageLocation,
    *,
    report: Report,
    platforms: Sequence[Platform] = (),
    cache: Backend | None = None,
    sides: tuple[str, str] = ("", ""),
) -> Event:
    """Copy an image; the event "done". Raises Fault.

    ``cache`` is needed where one side is ``cache:``; ``sides`` are the prefixes of each side's
    own flags in the options.
    """

    async def run() -> Event:
        async with AsyncExitStack() as stack:
            ends = Ends(context, cache, stack)
            origin = await ends.source(source, sides[0])
            goal = await ends.sink(target, sides[1], source)
            return await _copy(origin, goal, target, platforms, context, report)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def _copy(
    origin: Source,
    goal: Sink,
    target: ImageLocation,
    platforms: Sequence[Platform],
    context: Context,
    report: Report,
) -> Event:
    started = monotonic()
    jobs = context.options.jobs or DEFAULT_JOBS
    result = await copy_image(origin, goal, platforms=platforms, jobs=jobs, report=report)
    event: Event = copied(
        target.reference or str(target),
        result.descriptor.digest,
        platforms,
        sent=result.sent,
        sent_blobs=result.sent_blobs,
        held=result.held,
        held_blobs=result.held_blobs,
        seconds=monotonic() - started,
    )
    report(event)
    return event


class Ends:
    """Makes a Source or Sink of a location; what it opens, the stack closes.

    With ``replace`` an archive takes the place of a file that is there.
    """

    def __init__(
        self,
        context: Context,
        cache: Backend | None,
        stack: AsyncExitStack,
        *,
        replace: bool = False,
    ) -> None:
        self._replace = replace
        self._context = context
        self._cache = cache
        self._stack = stack
        self._node: Node | None = None

    async def source(self, location: ImageLocation, side: str) -> Source:
        """Where to read. Raises Fault."""
        reference = location.reference
        if reference is None:
            opening = location.opened_source(spool=spool_folder(self._context.environ))
            return await self._stack.enter_async_context(opening)
        if location.transport == "registry":
            patience = settings(self._context).transfer
            return RegistrySource(await self._registry(reference, side), reference, patience)
        if self._cache is not None and self._cache.socket is not None:
            remote = await self._daemon(reference, self._cache.socket)
            return RegistrySource(remote, reference)
        node = await self._own_node()
        upstream = None
        if reference.registry != OWN_REGISTRY:
            upstream = node.remotes.remote(reference.registry, await self._login(reference, side))
        return CachedSource(node.library, node.store, reference, upstream)

    async def sink(self, location: ImageLocation, side: str, origin: ImageLocation) -> Sink:
        """Where to write what comes from ``origin``. Raises Fault."""
        reference = location.reference
        if reference is None:
            goal = location.named(origin.reference).opened_sink(
                spool=spool_folder(self._context.environ), platform=own(), replace=self._replace
            )
            return await self._stack.enter_async_context(goal)
        if location.transport == "registry":
            remote = await self._registry(reference, side)
            return RegistrySink(remote, reference, mount_from=_sibling(origin, reference))
        check_own_name(reference)
        if self._cache is not None and self._cache.socket is not None:
            return RegistrySink(await self._daemon(reference, self._cache.socket), reference)
        node = await self._own_node()
        return CachedSink(node.library, node.store, reference)

    async def _registry(self, reference: Reference, side: str) -> Remote:
        login = await self._login(reference, side)
        opening = open_remotes(self._context, reference.registry, side=side)
        remotes = await self._stack.enter_async_context(opening)
        return remotes.remote(reference.registry, login)

    async def _login(self, reference: Reference, side: str) -> Login | None:
        registry, repository = reference.registry, reference.repository
        return await asyncio.to_thread(login_for, self._context, registry, repository, side=side)

    async def _daemon(self, reference: Reference, socket: Path) -> Remote:
        """The daemon as the registry that this name belongs to."""
        endpoint = f"unix://{quote(str(socket))}"
        opening = open_remotes(self._context, reference.registry, endpoint=endpoint)
        remotes = await self._stack.enter_async_context(opening)
        return remotes.remote(reference.registry)

    async def _own_node(self) -> Node:
        """The cache of this process; opened once, as its root can be opened only once."""
        if self._node is None:
            root = self._cache.root if self._cache is not None else None
            opening = open_node(settings(self._context, root=root), self._context.environ)
            self._node = await self._stack.enter_async_context(opening)
        return self._node


def spool_folder(environ: Mapping[str, str]) -> Path:
    """Where large files lie for a while, as for other tools: /tmp is often memory."""
    return Path(environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 (only files without a name)


def _sibling(origin: ImageLocation, target: Reference) -> str:
    """The repository of the same registry that has the blobs already, or nothing."""
    reference = origin.reference
    if origin.transport != "registry" or reference is None:
        return ""
    return reference.repository if reference.registry == target.registry else ""
