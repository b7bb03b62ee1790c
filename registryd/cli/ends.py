"""The two ends of copies in this process: each location becomes a Source or a Sink.

Invariants:
- the node cache is one more registry behind the daemon's socket where there is a daemon, and
  a node opened in this process where there is none: what writes to a root is one process;
- what the cache does not hold of an image that is read from it, it fetches;
- a registry's connections are opened once, however many images are copied: tokens and the waits
  that it asks for are shared by all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from cache.content import Digest
from cache.errors import DigestMismatch
from registryd.cli.backend import Backend
from registryd.cli.command import Context
from registryd.cli.copy_flags import sided
from registryd.cli.logins import login_for
from registryd.cli.own_names import OWN_REGISTRY, check_own_name
from registryd.cli.passed import PassedSource
from registryd.cli.platforms import own
from registryd.cli.remotes import open_remotes
from registryd.cli.settings import Connection, connection, settings
from registryd.config import Config
from registryd.images.layers.target import FlatTerms
from registryd.images.layout import layout_tags
from registryd.images.transports import ImageLocation
from registryd.notices import Notices
from registryd.oci.errors import UsageError
from registryd.oci.reference import DOCKER_HUB, Reference
from registryd.operations import Node
from registryd.ports import Remote, Sink, Source
from registryd.remote.remotes import RegistryRemotes
from registryd.secrets import Login, Secret
from registryd.services import open_node
from registryd.sync.plan import Door
from registryd.transfer.admission import Admission
from registryd.transfer.cached import CachedSink, CachedSource
from registryd.transfer.endpoints import RegistrySink, RegistrySource

#: Forms whose blobs are files of their own.
FOLDERS = frozenset({"oci", "dir"})


class Ends:
    """Makes a Source or Sink of a location (``registryd.sync`` calls this Places).

    ``sides`` are the prefixes of each side's own flags in the options; ``doors`` say how registries
    are reached that no flag speaks of. With ``replace`` an archive takes the place of a file that
    is there; without ``files`` no credential file is looked at; with ``passed`` blobs of a daemon's
    cache are its own files, which a folder may share blocks with. What it opens, the stack closes.
    """

    def __init__(
        self,
        context: Context,
        cache: Backend | None,
        stack: AsyncExitStack,
        *,
        sides: tuple[str, str] = ("", ""),
        doors: Mapping[str, Door] | None = None,
        replace: bool = False,
        files: bool = True,
        notices: Notices | None = None,
        passed: bool = False,
    ) -> None:
        self._passed = passed
        self._replace = replace
        self._notices = notices
        self._context = context
        self._cache = cache
        self._stack = stack
        self._sides = sides
        self._doors = doors or {}
        self._files = files
        self._node: Node | None = None
        self._open: dict[tuple[str, Connection, str], RegistryRemotes] = {}
        self._opening = asyncio.Lock()
        self._logins: dict[tuple[str, str, str], Login | None] = {}
        self._read: tuple[Config, Admission] | None = None
        #: Registry and blob -> the repository that has it for sure.
        self._landed: dict[tuple[str, Digest], str] = {}

    async def source(self, location: ImageLocation) -> Source:
        """Where to read. Raises Fault."""
        side = self._sides[0]
        reference = location.reference
        if reference is None:
            opening = location.opened_source(spool=spool_folder(self._context.environ))
            return await self._stack.enter_async_context(opening)
        if location.transport == "registry":
            remote = await self._registry(reference, side)
            if getattr(self._context.options, "verify_tag", False):
                await check_tag(remote, reference)
            config, admission = self._rules()
            return RegistrySource(remote, reference, config.transfer, admission=admission)
        if self._cache is not None and self._cache.socket is not None:
            remote = await self._daemon(reference, self._cache.socket)
            served = RegistrySource(remote, reference)
            if not self._passed:
                return served
            login = await self._login(reference, side)
            return PassedSource(served, self._cache.socket, reference, login)
        node = await self._own_node()
        upstream = None
        if reference.registry != OWN_REGISTRY:
            upstream = node.remotes.remote(reference.registry, await self._login(reference, side))
        return CachedSource(node.library, node.store, reference, upstream)

    def _rules(self) -> tuple[Config, Admission]:
        """The user's configuration, read once, and what it says of signatures."""
        if self._read is None:
            config = settings(self._context)
            self._read = config, Admission(config.signatures, clock=monotonic)
        return self._read

    async def sink(self, location: ImageLocation, origin: ImageLocation) -> Sink:
        """Where to write what comes from ``origin``. Raises Fault."""
        side = self._sides[1]
        reference = location.reference
        if reference is None:
            goal = location.named(origin.reference).opened_sink(
                spool=spool_folder(self._context.environ),
                platform=own(),
                replace=self._replace,
                flat=self._flat(),
            )
            return await self._stack.enter_async_context(goal)
        if location.transport == "registry":
            remote = await self._registry(reference, side)
            return self._registry_sink(remote, reference, origin)
        check_own_name(reference)
        if self._cache is not None and self._cache.socket is not None:
            remote = await self._daemon(reference, self._cache.socket)
            return RegistrySink(remote, reference, whole=False)
        node = await self._own_node()
        return CachedSink(node.library, node.store, reference)

    def _flat(self) -> FlatTerms:
        """How images are flattened here."""
        context = self._context
        return FlatTerms(
            environ=context.environ,
            warned=context.console.warning,
            replace=self._replace,
        )

    def _registry_sink(self, remote: Remote, reference: Reference, origin: ImageLocation) -> Sink:
        """Mounts from the source where that is near, else from where this run has put a blob."""
        registry, repository = reference.registry, reference.repository

        async def find(digest: Digest) -> str:
            return self._landed.get((registry, digest), "")

        def landed(digest: Digest) -> None:
            self._landed.setdefault((registry, digest), repository)

        sibling = _sibling(origin, reference)
        return RegistrySink(remote, reference, mount_from=sibling, find_mount=find, landed=landed)

    async def tags(self, location: ImageLocation) -> Sequence[str]:
        """The tags of a source's repository or layout. Raises Fault."""
        reference = location.reference
        if location.transport == "oci" and location.path is not None:
            return await layout_tags(location.path)
        if reference is None:
            raise UsageError(f"{location} has no tags: name a repository, or oci:DIR")
        if location.transport == "registry":
            return await (await self._registry(reference, self._sides[0])).tags(reference.bare())
        raise UsageError(f"{location}: copy images of the cache one by one")

    async def repositories(self, registry: str) -> Sequence[str]:
        """The repositories of a source's registry. Raises Fault."""
        reference = Reference(registry, "any" if registry != DOCKER_HUB else "library/any")
        return await (await self._registry(reference, self._sides[0])).catalog()

    def left(self, registry: str) -> int | None:
        """How many requests a registry allows us yet, as it last said; None: it did not say."""
        known = {} if self._notices is None else self._notices.rate_limits
        found = [
            limit.remaining
            for (name, _), limit in known.items()
            if name == registry and limit.remaining is not None
        ]
        return min(found, default=None)

    async def _registry(self, reference: Reference, side: str) -> Remote:
        """The registry by this side's flags; both sides share it where these agree."""
        login = await self._login(reference, side)
        registry = reference.registry
        remotes = await self._remotes((registry, connection(self._context, side), ""), side)
        return remotes.remote(registry, login)

    async def _remotes(self, key: tuple[str, Connection, str], side: str) -> RegistryRemotes:
        """The connections to a registry, opened once: they share tokens and waits."""
        registry, _, endpoint = key
        async with self._opening:
            if key not in self._open:
                opening = open_remotes(
                    self._context,
                    registry,
                    side=side,
                    endpoint=endpoint,
                    notices=None if endpoint else self._notices,
                    door=None if endpoint else self._doors.get(registry),
                )
                self._open[key] = await self._stack.enter_async_context(opening)
            return self._open[key]

    async def _login(self, reference: Reference, side: str) -> Login | None:
        """What this side shows; looked for once."""
        key = (side, reference.registry, reference.repository)
        if key not in self._logins:
            self._logins[key] = await self._find_login(reference, side)
        return self._logins[key]

    async def _find_login(self, reference: Reference, side: str) -> Login | None:
        context = sided(self._context, side) if side else self._context
        options = context.options
        token = getattr(options, f"{side}registry_token", None)
        if token is not None:
            origin = "--" + f"{side}registry_token".replace("_", "-")
            return Login(registry_token=Secret(token), origin=origin)
        flags = (f"{prefix}{name}" for prefix in (side, "") for name in ("creds", "no_creds"))
        door = self._doors.get(reference.registry)
        if not any(getattr(options, flag, None) for flag in flags):
            if door is not None and door.login is not None:
                return door.login
            if not self._files and options.authfile is None:
                return None
        registry, repository = reference.registry, reference.repository
        return await asyncio.to_thread(login_for, context, registry, repository, side=side)

    async def _daemon(self, reference: Reference, socket: Path) -> Remote:
        """The daemon as the registry that this name belongs to."""
        registry = reference.registry
        remotes = await self._remotes((registry, Connection(), f"unix://{quote(str(socket))}"), "")
        return remotes.remote(registry)

    async def _own_node(self) -> Node:
        """The cache of this process; opened once, as its root can be opened only once."""
        async with self._opening:
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
