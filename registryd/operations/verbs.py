"""What a person can ask of a node: the verbs of /api/v1, as methods.

Invariants:
- arguments and results are those of the API: texts in, plain dicts (or bytes) out;
- a caller reads only what ``Access`` admits them to, and sees nothing else in a list;
- only the owner of the daemon removes what others may be using;
- ``localhost/`` names are the only ones that are set here: what another registry's name means is
  that registry's to say.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cache.content import Digest
from cache.errors import NameNotFound
from registryd.access import Caller
from registryd.oci.errors import Denied, UsageError
from registryd.oci.image_config import CONFIG_LIMIT
from registryd.oci.manifest import Document, Index, Manifest
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations.accounting import Accounting
from registryd.operations.allowances import Allowances
from registryd.operations.cluster import Clustered
from registryd.operations.collecting import Collecting
from registryd.operations.converting import Converting
from registryd.operations.exporting import Exporting
from registryd.operations.gateway import Gatewayed
from registryd.operations.grants import Granted
from registryd.operations.limits import Limited
from registryd.operations.node import Raw, Result
from registryd.operations.pins import Pinning
from registryd.operations.prefetch import Prefetching
from registryd.operations.proving import Proving
from registryd.operations.quotas import Quoted
from registryd.operations.repairing import Repairing
from registryd.operations.watching import Watched
from registryd.ports import Sink
from registryd.secrets import Login
from registryd.transfer import report as events
from registryd.transfer.cached import CachedSink, CachedSource
from registryd.transfer.copy import copy_image
from registryd.transfer.endpoints import RegistrySink
from registryd.transfer.library import LOCALHOST
from registryd.transfer.pull import Request, pull
from registryd.transfer.report import Report
from registryd.user_quotas import charged

#: Repositories that are looked at for one to mount a blob from; most blobs are in one.
MOUNTS_LOOKED_AT = 8


class Operations(
    Watched,
    Accounting,
    Granted,
    Limited,
    Allowances,
    Pinning,
    Collecting,
    Prefetching,
    Proving,
    Quoted,
    Exporting,
    Repairing,
    Clustered,
    Converting,
    Gatewayed,
):
    """The verbs. Every method raises Faults only."""

    # moving images

    async def pull(
        self,
        reference: str,
        *,
        platforms: Sequence[str] = (),
        all_platforms: bool = False,
        unkept: bool = False,
        login: Login | None = None,
        principal: str = "",
        report: Report = events.silent,
    ) -> None:
        """Make an image present; tells events, the last one is ``done``.

        With ``unkept`` it is no failure that there is no room: who asks reads it from the API of
        the registry, past the cache. ``done`` says whether it was kept.
        """
        name = Reference.parse(reference)
        with self._told(name, Caller(principal, login), report):
            request = Request(
                name,
                await self._admit(name, login, principal),
                self._node.host,
                [Platform.parse(text) for text in platforms],
                everything=all_platforms,
                jobs=self._node.jobs,
                kept=not unkept,
                owner=charged(principal),
            )
            await pull(self._node.library, self._store, request, report)
        if not principal and login is None:
            await self._node.access.open_to_all(request.remote, name)

    async def push(
        self,
        source: str,
        destination: str,
        *,
        login: Login | None = None,
        principal: str = "",
        report: Report = events.silent,
    ) -> None:
        """Copy an image of the cache to a registry; tells events, the last one is ``done``."""
        name, target = Reference.parse(source), Reference.parse(destination)
        await self._admit(name, None, principal)
        began = time.monotonic()
        local = CachedSource(self._node.library, self._store, name)
        root = await local.root()
        held = await self._held_platforms(root)
        caller = Caller(principal, login)
        counted = self._named_for(principal if target.registry == LOCALHOST else "", root.digest)
        async with counted:
            with self._told(target, caller, report):
                done = await copy_image(
                    local,
                    self._sink(target, caller),
                    platforms=held,
                    jobs=self._node.jobs,
                    report=report,
                )
        report(
            events.copied(
                target,
                done.descriptor.digest,
                held,
                sent=done.sent,
                sent_blobs=done.sent_blobs,
                held=done.held,
                held_blobs=done.held_blobs,
                seconds=time.monotonic() - began,
                index=done.index,
                manifests=done.manifests,
                unchanged=done.unchanged,
            )
        )

    def _sink(self, target: Reference, caller: Caller) -> Sink:
        """Where a push goes. Raises Denied: nobody writes in this node's name but its owner."""
        remote = self._node.access.pusher(caller, target)
        if remote is None:
            return CachedSink(self._node.library, self._store, target)

        async def find_mount(digest: Digest) -> str:
            """A repository of the registry that the blob was seen in, as far as the caller may."""
            prefix = f"{target.registry}/"
            for name in await self._store.repositories.holding(prefix, digest, MOUNTS_LOOKED_AT):
                if name != target.name and await self._node.access.may_read(caller.principal, name):
                    return name.removeprefix(prefix)
            return ""

        return RegistrySink(remote, target, find_mount=find_mount)

    async def _held_platforms(self, root: Document) -> list[Platform]:
        """Which platforms of an index can be pushed; none named means all there are."""
        if not isinstance(root, Index):
            return []
        held = {e: await self._store.is_complete(e.descriptor) for e in root.entries}
        if all(held.values()):
            return []
        return [entry.platform for entry, here in held.items() if here and entry.platform]

    # names

    async def tag(self, source: str, target: str, *, principal: str = "") -> Result:
        """Give a held image one more name, under ``localhost/``."""
        name, new = Reference.parse(source), Reference.parse(target)
        if new.registry != LOCALHOST or new.digest is not None:
            raise UsageError(
                f"{target}: only localhost/NAME:TAG can be set here, what other names mean is their"
                f" registry's to say (to put it there: registryctl push {source} {target})"
            )
        await self._admit(name, None, principal)
        document = await self._node.library.document(None, name)
        async with self._named_for(principal, document.digest):
            await self._store.add_member(new.name, *await self._store.closure(document.digest))
            await self._store.tag(str(new), new.name, document.descriptor)
        return {"reference": str(new), "digest": str(document.digest)}

    async def rmi(self, reference: str, *, principal: str = "") -> Result:
        """Take a name away, and what only it needed; the last one of what is pinned stays."""
        if principal:
            raise Denied("only root and the daemon's own user may remove images from this cache")
        name = Reference.parse(reference)
        known = await self._store.resolve(str(name))
        gone = [known] if known else []
        if name.digest is not None:
            every = await self._store.names(name.name)
            gone = [entry for entry in every if entry.descriptor.digest == name.digest]
        if not gone:
            # An earlier removal may not have reached index.json, which the next start believes.
            await self._store.restored()
            raise NameNotFound(f"{name} is not in the cache")
        await self._refuse_pinned(len(gone), gone[0].descriptor.digest)
        needed = await self._store.closure(gone[0].descriptor.digest, made=True)
        for entry in gone:
            await self._store.untag(entry.name)
        deleted = await self._store.remove(needed)
        return {
            "untagged": [entry.name for entry in gone],
            "deleted": [str(digest) for digest in deleted],
            "freed": sum(deleted.values()),
        }

    # looking at images, here or at their registry

    async def digest(
        self, reference: str, *, login: Login | None = None, principal: str = ""
    ) -> Result:
        """What a reference means now; ``warning`` is there where its registry did not say so."""
        name = Reference.parse(reference)
        remote = await self._admit(name, login, principal)
        meaning = await self._node.library.tags.resolve(remote, name)
        result: Result = {
            "reference": str(name),
            "digest": str(meaning.descriptor.digest),
            "media_type": meaning.descriptor.media_type,
            "size": meaning.descriptor.size,
        }
        if meaning.stale is not None:
            result |= {"stale": meaning.stale.cause, "warning": str(meaning.stale)}
        return result

    async def manifest(
        self,
        reference: str,
        *,
        platform: str | None = None,
        login: Login | None = None,
        principal: str = "",
        report: Report = events.silent,
    ) -> Raw:
        """A manifest's own bytes; with a platform, those of the manifest an index has for it."""
        name = Reference.parse(reference)
        remote = await self._admit(name, login, principal)
        found = await self._node.library.find(remote, name)
        if found.stale is not None:
            report(events.warning(found.stale))
        document = found.document
        if platform:
            document = await self._select(remote, name, document, Platform.parse(platform))
        return document.raw, document.media_type, str(document.digest), str(document.digest)

    async def config(
        self,
        reference: str,
        *,
        platform: str | None = None,
        login: Login | None = None,
        principal: str = "",
    ) -> Raw:
        """The bytes of an image's configuration, for a platform (this machine's by default)."""
        name = Reference.parse(reference)
        remote = await self._admit(name, login, principal)
        wanted = Platform.parse(platform) if platform else self._node.host
        root = await self._node.library.document(remote, name)
        document = await self._select(remote, name, root, wanted)
        if not isinstance(document, Manifest):
            raise UsageError(f"{name} has no configuration")
        descriptor = document.config
        flight = await self._node.library.blob(remote, name, descriptor.digest, descriptor.size)
        if flight is not None:
            await flight.landed()
        raw = await self._store.read(descriptor.digest, limit=CONFIG_LIMIT)
        return raw, descriptor.media_type, str(descriptor.digest), str(document.digest)

    @asynccontextmanager
    async def opened(
        self, reference: str, digest: str, *, login: Login | None = None, principal: str = ""
    ) -> AsyncIterator[int]:
        """A blob of a repository, made present and open for reading; counts as a use.

        Whoever got the file may read on when the blob has been evicted: its room is free when the
        last of them has closed it.
        """
        name, wanted = Reference.parse(reference), Digest.parse(digest)
        remote = await self._node.access.admit(
            Caller(principal, login), name, lambda remote: remote.blob_size(name, wanted)
        )
        flight = await self._node.library.blob(remote, name, wanted)
        if flight is not None:
            await flight.landed()
        async with self._store.open_blob(wanted) as file:
            yield file

    async def tags(
        self,
        repository: str,
        *,
        last: str | None = None,
        limit: str | None = None,
        login: Login | None = None,
        principal: str = "",
    ) -> Result:
        """The tags of a repository after ``last``, at most ``limit``, as its registry has them."""
        name = Reference.parse(repository, default_tag=None).bare()
        if limit is not None and not (limit.isascii() and limit.isdecimal() and int(limit)):
            raise UsageError(f"limit={limit[:20]!r} is not a number from 1 up")
        after, most = last or "", None if limit is None else int(limit)
        remote = await self._node.access.admit(
            Caller(principal, login),
            name,
            lambda remote: remote.tags(name, last=after, limit=most),
            proves=False,
        )
        if remote is not None:
            return {"name": name.name, "tags": await remote.tags(name, last=after, limit=most)}
        held = await self._store.names(name.name)
        found = {Reference.parse(entry.name, default_tag=None).tag for entry in held}
        tags = sorted(tag for tag in found if tag and tag > after)
        return {"name": name.name, "tags": tags[:most]}
