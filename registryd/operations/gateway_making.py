"""What the gateway asks of this node (``gateway.making``): pulls, roots and squashfs files.

Invariants:
- an image is brought in the name of who asks, with their login or none: what their registry does
  not give them, this does not either;
- whether an image is public is for its registry to say, asked by nobody in particular.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from cache.content import Descriptor, Digest
from cache.errors import BlobNotFound, DigestMismatch, Fault
from registryd.access import ANYBODY
from registryd.conversion.recipe import Recipe
from registryd.gateway.making import Told
from registryd.gateway.record import Account, Setup
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import in_thread
from registryd.images.transports import ImageLocation, Transport
from registryd.oci.errors import Denied, Unauthorized
from registryd.oci.image_config import CONFIG_LIMIT, ImageConfig, parse_config
from registryd.oci.manifest import Index, Manifest
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations.node import Node
from registryd.ports import Source, Warned
from registryd.secrets import Login
from registryd.transfer.cached import CachedSource
from registryd.transfer.copy import copy_image, plan
from registryd.transfer.report import Event, Report

if TYPE_CHECKING:
    from registryd.images.layers.squashfs import Compressor
    from registryd.images.words import FlatForm


class Pull(Protocol):
    """How an image is brought: ``Operations.pull``."""

    def __call__(
        self,
        reference: str,
        *,
        login: Login | None,
        principal: str,
        report: Report,
    ) -> Awaitable[None]:
        """Make an image present. Raises Fault."""


@dataclass(frozen=True, slots=True)
class NodeMaker:
    """Makes images on this node (a ``gateway.making.Maker``)."""

    node: Node
    pulls: Pull
    compressor: str
    environ: Mapping[str, str]
    spool: Path
    warned: Warned

    async def pull(
        self, reference: Reference, account: Account, login: Login | None, told: Told
    ) -> _Found:
        """Bring an image of a registry, in this user's name. Raises Fault."""
        done: Event = {}

        def report(event: Event) -> None:
            if event["event"] == "blob" and event.get("state") == "fetching":
                told(f"Pulling layer {event['digest']}")
            elif event["event"] == "waiting":
                told(str(event["message"]))
            elif event["event"] == "done":
                done.update(event)

        principal = account.principal
        try:
            await self.pulls(str(reference), login=login, principal=principal, report=report)
        except (Unauthorized, Denied):
            # A login that is out of date is no reason to refuse what everybody may have.
            if login is None or not await self._is_public(reference):
                raise
            await self.pulls(str(reference), login=None, principal=principal, report=report)
        exact = reference.with_digest(Digest.parse(str(done["digest"])))
        source = CachedSource(self.node.library, self.node.store, exact)
        found = await self._found(source, public=await self._is_public(reference))
        return replace(found, reference=exact)

    @asynccontextmanager
    async def opened(self, file: Path, form: str) -> AsyncIterator[_Found]:
        """The one image of an archive. Raises Fault."""
        place = ImageLocation(cast(Transport, form), file)
        async with place.opened_source(spool=self.spool) as source:
            yield await self._found(source, public=False)

    async def _is_public(self, reference: Reference) -> bool:
        with suppress(Fault):
            await self.node.access.admit(ANYBODY, reference)
            return True
        return False

    async def _found(self, source: Source, *, public: bool) -> _Found:
        root = await source.root()
        platforms = (self.node.host,) if isinstance(root, Index) else ()
        manifest = (await plan(source, platforms)).root
        if not isinstance(manifest, Manifest):
            raise NotAnImage(f"{manifest.digest} is several images, and none of them is ours")
        config = parse_config(await _read(source, manifest.config))
        return _Found(self, source, platforms, manifest, public, _setup(config))

    async def convert(self, reference: Reference, manifest: Manifest, target: Path) -> str:
        """An image of the cache, made once for all who ask, under one more name.

        Its sha256 in hex. Raises Fault.
        """
        conversions, store = self.node.conversions, self.node.store
        assert conversions is not None  # noqa: S101 (a node that has operations has them)
        compat = None if self.compressor == "zstd" else self.compressor
        recipe = Recipe.of("squashfs", compat, dressed=True)
        async with store.lease() as lease:
            await lease.hold(manifest.digest)
            done = await conversions.converted(None, reference, manifest, recipe, _nobody)
            await lease.hold(done.blob.digest)
            blob = store.find(done.blob.digest)
            if blob is None:
                raise BlobNotFound(f"{done.blob.digest} has just left the cache")
            with path_faults(target):
                await in_thread(_named_too, blob.path, target)
        return done.blob.digest.hex

    async def make(
        self, source: Source, platforms: Sequence[Platform], form: FlatForm, target: Path
    ) -> None:
        """Make an image one, as a folder or a file. Raises Fault."""
        from registryd.images.layers.target import FlatTerms, open_flat

        terms = FlatTerms(self.environ, self.warned, cast("Compressor", self.compressor))
        async with open_flat(form, target, spool=self.spool, terms=terms) as sink:
            await copy_image(source, sink, platforms=platforms, jobs=self.node.jobs)


@dataclass(frozen=True, slots=True)
class _Found:
    """An image whose layers are here (a ``gateway.making.Found``)."""

    maker: NodeMaker
    source: Source
    platforms: Sequence[Platform]
    manifest: Manifest
    public: bool
    setup: Setup
    reference: Reference | None = None

    @property
    def proven(self) -> bool:
        """A registry has let them in, or all that they have is a file."""
        return self.reference is not None

    @property
    def id(self) -> str:
        """The digest of its manifest, in hex."""
        return self.manifest.digest.hex

    async def unpack(self, folder: Path) -> None:
        """Make its root in a new folder. Raises Fault."""
        await self.maker.make(self.source, self.platforms, "rootfs", folder)

    async def convert(self, target: Path) -> str:
        """Make it a squashfs in a new file, or have it made by the cache. Raises Fault."""
        if self.reference is None:
            await self.maker.make(self.source, self.platforms, "squashfs", target)
            return ""
        return await self.maker.convert(self.reference, self.manifest, target)


async def _read(source: Source, descriptor: Descriptor) -> bytes:
    """A configuration, proven. Raises NotAnImage, DigestMismatch, and what the source raises."""
    if descriptor.size > CONFIG_LIMIT:
        raise NotAnImage(f"its configuration has {descriptor.size} bytes")
    pieces = bytearray()
    async with source.blob(descriptor) as body:
        async for piece in body:
            pieces += piece
            if len(pieces) > CONFIG_LIMIT:
                raise NotAnImage("its configuration has no end")
    raw = bytes(pieces)
    if Digest.of(raw, descriptor.digest.algorithm) != descriptor.digest:
        raise DigestMismatch(f"the configuration is not {descriptor.digest}, as the manifest says")
    return raw


def _named_too(blob: Path, target: Path) -> None:
    """The same file under one more name; a copy where it is on another disk."""
    try:
        os.link(blob, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copyfile(blob, target)


def _nobody(at: int, total: int) -> None:
    """Nobody is told how far a conversion is."""


def _setup(config: ImageConfig) -> Setup:
    return Setup(
        env=config.env,
        entry=config.entrypoint,
        cmd=config.cmd,
        workdir=config.working_dir,
        user=config.user,
        labels=dict(config.labels),
    )
