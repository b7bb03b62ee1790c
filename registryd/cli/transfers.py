"""Copies done in this process, with the user's own credentials: between any two places.

Invariants:
- the node cache is read through the daemon's socket where there is one (a registry like any
  other), and as the OCI layout that its root is where there is none;
- what goes into the cache goes through the process that writes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from urllib.parse import quote

from registryd.cli.backend import Backend, Event, Report
from registryd.cli.command import Context
from registryd.cli.logins import login_for
from registryd.cli.own_names import check_own_name
from registryd.cli.remotes import open_remotes
from registryd.images.layout import LayoutSource
from registryd.images.transports import ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import Remote, Sink, Source
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
    return asyncio.run(_copy(Ends(context, cache), source, target, report, platforms, sides))


async def _copy(
    ends: Ends,
    source: ImageLocation,
    target: ImageLocation,
    report: Report,
    platforms: Sequence[Platform],
    sides: tuple[str, str],
) -> Event:
    started = monotonic()
    jobs = ends.context.options.jobs or DEFAULT_JOBS
    async with AsyncExitStack() as stack:
        origin = await ends.source(source, stack, sides[0])
        goal = await ends.sink(target, stack, sides[1], source)
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


@dataclass(frozen=True, slots=True)
class Ends:
    """Makes a Source or Sink of a location; what it opens, the stack closes."""

    context: Context
    cache: Backend | None

    async def source(self, location: ImageLocation, stack: AsyncExitStack, side: str) -> Source:
        """Where to read. Raises Fault."""
        reference = location.reference
        if reference is None:
            return location.file_source()
        if location.transport == "registry":
            return RegistrySource(await self._registry(reference, stack, side), reference)
        if self.cache is not None and self.cache.root is not None:
            return LayoutSource(self.cache.root, str(reference))
        return RegistrySource(await self._daemon(reference, stack), reference)

    async def sink(
        self, location: ImageLocation, stack: AsyncExitStack, side: str, origin: ImageLocation
    ) -> Sink:
        """Where to write what comes from ``origin``. Raises Fault."""
        reference = location.reference
        if reference is None:
            return location.file_sink()
        if location.transport == "registry":
            remote = await self._registry(reference, stack, side)
            return RegistrySink(remote, reference, mount_from=_sibling(origin, reference))
        check_own_name(reference)
        return RegistrySink(await self._daemon(reference, stack), reference)

    async def _registry(self, reference: Reference, stack: AsyncExitStack, side: str) -> Remote:
        login = await asyncio.to_thread(
            login_for, self.context, reference.registry, reference.repository, side=side
        )
        remotes = await stack.enter_async_context(
            open_remotes(self.context, reference.registry, side=side)
        )
        return remotes.remote(reference.registry, login)

    async def _daemon(self, reference: Reference, stack: AsyncExitStack) -> Remote:
        """The daemon as the registry that this name belongs to."""
        if self.cache is None or self.cache.socket is None:
            raise UsageError(f"cache:{reference} needs a daemon to take it in (start registryd)")
        endpoint = f"unix://{quote(str(self.cache.socket.absolute()))}"
        remotes = await stack.enter_async_context(
            open_remotes(self.context, reference.registry, endpoint=endpoint)
        )
        return remotes.remote(reference.registry)


def _sibling(origin: ImageLocation, target: Reference) -> str:
    """The repository of the same registry that has the blobs already, or nothing."""
    reference = origin.reference
    if origin.transport != "registry" or reference is None:
        return ""
    return reference.repository if reference.registry == target.registry else ""
