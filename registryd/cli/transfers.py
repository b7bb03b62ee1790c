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

from cache.content import Digest
from cache.errors import DigestMismatch
from registryd.cli.backend import Backend, Event, Report
from registryd.cli.command import Context
from registryd.cli.copy_flags import sided
from registryd.cli.logins import login_for
from registryd.cli.own_names import OWN_REGISTRY, check_own_name
from registryd.cli.platforms import own
from registryd.cli.remotes import open_remotes
from registryd.cli.settings import Connection, connection, settings
from registryd.images.transports import ImageLocation
from registryd.notices import Notices
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations import Node
from registryd.ports import Remote, Sink, Source
from registryd.remote.remotes import RegistryRemotes
from registryd.secrets import Login, Secret
from registryd.services import open_node
from registryd.transfer.cached import CachedSink, CachedSource
from registryd.transfer.copy import USUAL, Terms, copy_image
from registryd.transfer.endpoints import RegistrySink, RegistrySource
from registryd.transfer.report import copied, notice

DEFAULT_JOBS = 4


def copy(
    context: Context,
    source: ImageLocation,
    target: ImageLocation,
    *,
    report: Report,
    platforms: Sequence[Platform] = (),
    terms: Terms = USUAL,
    cache: Backend | None = None,
    sides: tuple[str, str] = ("", ""),
) -> Event:
    """Copy an image; the event "done". Raises Fault.

    ``cache`` is needed where one side is ``cache:``; ``sides`` are the prefixes of each side's
    own flags in the options.
    """

    async def run() -> Event:
        async with AsyncExitStack() as stack:
            notices = Notices()
            stack.enter_context(notices.heard("", lambda told: report(notice(told))))
            ends = Ends(context, cache, stack, notices=notices)
            origin = await ends.source(source, sides[0])
            goal = await ends.sink(target, sides[1], source)
            return await _copy(origin, goal, target, (platforms, terms), context, report)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def _copy(
    origin: Source,
    goal: Sink,
    target: ImageLocation,
    wanted: tuple[Sequence[Platform], Terms],
    context: Context,
    report: Report,
) -> Event:
    started = monotonic()
    jobs = context.options.jobs or DEFAULT_JOBS
    platforms, terms = wanted
    result = await copy_image(
        origin, goal, platforms=platforms, terms=terms, jobs=jobs, report=report
    )
    event: Event = copied(
        target.reference or str(target),
        result.descriptor.digest,
        platforms,
        sent=result.sent,
        sent_blobs=result.sent_blobs,
        held=result.held,
        held_blobs=result.held_blobs,
        seconds=monotonic() - started,
        index=result.index,
        manifests=result.manifests,
        unchanged=result.unchanged,
    )
    if terms.rehearse:
        event["dry_run"] = True
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
        notices: Notices | None = None,
    ) -> None:
        self._replace = replace
        self._notices = notices
        self._context = context
        self._cache = cache
        self._stack = stack
        self._node: Node | None = None
        self._open: dict[tuple[str, Connection], RegistryRemotes] = {}

    async def source(self, location: ImageLocation, side: str) -> Source:
        """Where to read. Raises Fault."""
        reference = location.reference
        if reference is None:
            opening = location.opened_source(spool=spool_folder(self._context.environ))
            return await self._stack.enter_async_context(opening)
        if location.transport == "registry":
            remote = await self._registry(reference, side)
            if getattr(self._context.options, "verify_tag", False):
                await check_tag(remote, reference)
            return RegistrySource(remote, reference, settings(self._context).transfer)
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
            remote = await self._daemon(reference, self._cache.socket)
            return RegistrySink(remote, reference, whole=False)
        node = await self._own_node()
        return CachedSink(node.library, node.store, reference)

    async def _registry(self, reference: Reference, side: str) -> Remote:
        """The registry by this side's flags; both sides share it where these agree."""
        login = await self._login(reference, side)
        key = (reference.registry, connection(self._context, side))
        if key not in self._open:
            opening = open_remotes(
                self._context, reference.registry, side=side, notices=self._notices
            )
            self._open[key] = await self._stack.enter_async_context(opening)
        return self._open[key].remote(reference.registry, login)

    async def _login(self, reference: Reference, side: str) -> Login | None:
        context = sided(self._context, side) if side else self._context
        token = getattr(context.options, f"{side}registry_token", None)
        if token is not None:
            origin = "--" + f"{side}registry_token".replace("_", "-")
            return Login(registry_token=Secret(token), origin=origin)
        registry, repository = reference.registry, reference.repository
        return await asyncio.to_thread(login_for, context, registry, repository, side=side)

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


async def check_tag(remote: Remote, reference: Reference) -> None:
    """Prove that a name's tag still means its digest, where it has both. Raises DigestMismatch."""
    if reference.digest is None or reference.tag is None:
        return
    tagged = reference.bare().with_tag(reference.tag)
    found = (await remote.resolve(tagged)).digest
    if found.algorithm != reference.digest.algorithm:
        found = Digest.of((await remote.fetch_manifest(tagged)).raw, reference.digest.algorithm)
    if found != reference.digest:
        raise DigestMismatch(f"{tagged} is {found} now, not {reference.digest} (--verify-tag)")


def _sibling(origin: ImageLocation, target: Reference) -> str:
    """The repository of the same registry that has the blobs already, or nothing."""
    reference = origin.reference
    if origin.transport != "registry" or reference is None:
        return ""
    return reference.repository if reference.registry == target.registry else ""
