"""One image brought over with everything that goes along: what is attached, digest tags, a backup.

Invariants:
- the image comes before what is attached to it: an artifact never points to what is not there;
- a name that is overwritten has been kept under its backup's name before;
- what nobody asked for costs no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, cast

from cache.content import Descriptor, Digest
from registryd.images.transports import ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.media_types import DOCUMENTS, INDEXES
from registryd.oci.platform import Platform
from registryd.oci.referrers import fallback_tag
from registryd.ports import Named, Referring, Sink, Source, Surveyed
from registryd.sync.rationed import Ration, Rationed, Readable, Sleep
from registryd.transfer.copy import USUAL, Copied, Terms, copy_image
from registryd.transfer.referrers import Rooted, attached_to
from registryd.transfer.report import Report, silent
from registryd.transfer.turns import EVERYONE_AT_ONCE, Turns

#: How often digest tags are followed to digest tags of what they name: a signature of a signature.
CHAIN_LIMIT: Final = 4


class Places(Protocol):
    """Opens what an image is read from and written to."""

    async def source(self, location: ImageLocation) -> Source:
        """Where to read. Raises Fault."""

    async def sink(self, location: ImageLocation, origin: ImageLocation) -> Sink:
        """Where to write what comes from ``origin``. Raises Fault."""

    async def tags(self, location: ImageLocation) -> Sequence[str]:
        """The tags of a repository or layout. Raises Fault."""

    async def repositories(self, registry: str) -> Sequence[str]:
        """The repositories of a registry. Raises Fault."""

    def left(self, registry: str) -> int | None:
        """How many requests a registry allows us yet; None: it did not say."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What of an image is wanted, and what along with it.

    ``media_types``: images of other types are left out (none: all are wanted). ``backup`` is the
    tag or name under which what is overwritten is kept. ``fast``: where the destination has the
    image, nothing is looked for that may be attached to it. ``ration``: how many requests to the
    source's registry are to be left over.
    """

    platforms: tuple[Platform, ...] = ()
    terms: Terms = USUAL
    referrers: bool = False
    artifact_types: tuple[str, ...] = ()
    digest_tags: bool = False
    media_types: frozenset[str] = frozenset()
    backup: str = ""
    fast: bool = False
    ration: Ration | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """What was done: the image, how many artifacts and digest tags came along, and all bytes.

    ``skipped`` says why nothing was.
    """

    image: Copied
    attached: int = 0
    attached_new: int = 0
    sent: int = 0
    sent_blobs: int = 0
    held: int = 0
    held_blobs: int = 0
    manifests: int = 0
    skipped: str = ""

    @property
    def unchanged(self) -> bool:
        """Whether everything was there."""
        return self.image.unchanged and not self.attached_new


@dataclass(slots=True)
class _Sums:
    """What was moved, of the image and of what goes along."""

    copies: list[Copied] = field(default_factory=list)
    attached: int = 0
    attached_new: int = 0

    def add(self, copied: Copied) -> None:
        self.copies.append(copied)
        self.attached += 1
        self.attached_new += not copied.unchanged

    def whole(self, image: Copied) -> Whole:
        every = [image, *self.copies]
        return Whole(
            image,
            self.attached,
            self.attached_new,
            sum(each.sent for each in every),
            sum(each.sent_blobs for each in every),
            sum(each.held for each in every),
            sum(each.held_blobs for each in every),
            sum(each.manifests for each in every),
        )


@dataclass(frozen=True, slots=True)
class Mover:
    """Brings images from place to place; ``jobs`` blobs at a time of each."""

    places: Places
    jobs: int = 4
    report: Report = silent
    turns: Turns = EVERYONE_AT_ONCE
    sleep: Sleep = asyncio.sleep

    async def move(self, source: ImageLocation, target: ImageLocation, extras: Extras) -> Whole:
        """Bring one image over, and what goes along. Raises Fault."""
        origin = self._rationed(await self.places.source(source), source, extras)
        goal = await self.places.sink(target, source)
        _check_room(source, origin, target, extras)
        unwanted = await self._unwanted(origin, extras)
        if unwanted is not None:
            return Whole(Copied(unwanted), skipped=f"it is of type {unwanted.media_type}")
        if extras.backup:
            await self._back_up(origin, goal, target, extras)
        image = await self._copy(origin, goal, extras.platforms, extras.terms)
        sums = _Sums()
        if (extras.referrers or extras.digest_tags) and not (extras.fast and image.unchanged):
            subjects = await self._subjects(origin, image)
            if extras.referrers and isinstance(origin, Referring):
                await self._attached(origin, source, target, subjects, extras, sums)
            if extras.digest_tags:
                await self._digest_tags(source, target, subjects, extras.terms, sums)
        return sums.whole(image)

    def _rationed(self, origin: Source, place: ImageLocation, extras: Extras) -> Source:
        """The source, where it has to be spared as one that waits."""
        registry = place.reference.registry if place.reference is not None else ""
        ration = extras.ration
        if ration is None or place.transport != "registry":
            return origin
        if not isinstance(origin, Named) or not isinstance(origin, Referring):
            return origin
        readable = cast("Readable", origin)
        return Rationed(
            readable, ration, lambda: self.places.left(registry), self.report, self.sleep
        )

    async def _copy(
        self, origin: Source, goal: Sink, platforms: Sequence[Platform], terms: Terms
    ) -> Copied:
        return await copy_image(
            origin,
            goal,
            platforms=platforms,
            terms=terms,
            jobs=self.jobs,
            report=self.report,
            turns=self.turns,
        )

    @staticmethod
    async def _unwanted(origin: Source, extras: Extras) -> Descriptor | None:
        """The root, where it is of a type that is not wanted."""
        if not extras.media_types:
            return None
        if isinstance(origin, Named):
            root = await origin.resolve()
        else:
            root = (await origin.root()).descriptor
        return None if root.media_type in extras.media_types else root

    async def _back_up(
        self, origin: Source, goal: Sink, target: ImageLocation, extras: Extras
    ) -> None:
        """Keep what the target's name means now, where it is about to mean something else."""
        if not isinstance(goal, Surveyed) or extras.terms.rehearse or not extras.terms.clobber:
            return
        found = await goal.standing()
        if found is None:
            return
        root = await origin.resolve() if isinstance(origin, Named) else None
        if root is not None and root.digest == found.digest:
            return
        kept = backup_of(target, extras.backup)
        there = await self.places.sink(kept, target)
        await self._copy(await self.places.source(target), there, (), USUAL)

    async def _subjects(self, origin: Source, image: Copied) -> list[Digest]:
        """The manifests of an image, which artifacts can be attached to."""
        known = [each.digest for each in image.documents]
        root = image.descriptor
        if image.index == "whole" and root.media_type in INDEXES and len(known) == 1:
            listed = (await origin.manifest(root)).children
            known += [child.digest for child in listed if child.media_type in DOCUMENTS]
        return known

    async def _attached(
        self,
        origin: Referring,
        source: ImageLocation,
        target: ImageLocation,
        subjects: Sequence[Digest],
        extras: Extras,
        sums: _Sums,
    ) -> None:
        """Everything that is attached to these, the nearest first."""
        types = extras.artifact_types or ("",)
        terms = replace(extras.terms, index="usual", clobber=True)
        done: set[Digest] = set()
        for artifact_type in types:
            found = await attached_to(origin, subjects, artifact_type=artifact_type, jobs=self.jobs)
            for each in found:
                digest = each.document.digest
                if digest in done:
                    continue
                done.add(digest)
                goal = await self.places.sink(at_digest(target, digest), source)
                sums.add(await self._copy(Rooted(origin, each.document), goal, (), terms))

    async def _digest_tags(
        self,
        source: ImageLocation,
        target: ImageLocation,
        subjects: Sequence[Digest],
        terms: Terms,
        sums: _Sums,
    ) -> None:
        """Tags whose names begin with a digest: signatures and the like, as cosign keeps them."""
        tags = await self.places.tags(source)
        seen: set[str] = set()
        level = list(subjects)
        for _ in range(CHAIN_LIMIT):
            wanted = [tag for tag in digest_tags(tags, level) if tag not in seen]
            level = []
            for tag in wanted:
                seen.add(tag)
                origin = await self.places.source(_with_tag(source, tag))
                goal = await self.places.sink(_with_tag(target, tag), source)
                copied = await self._copy(origin, goal, (), replace(terms, index="usual"))
                sums.add(copied)
                level += [each.digest for each in copied.documents]
            if not level:
                return


def _check_room(
    source: ImageLocation, origin: Source, target: ImageLocation, extras: Extras
) -> None:
    """What goes along must be found here and have a place there. Raises UsageError."""
    if extras.referrers:
        if not isinstance(origin, Referring):
            raise UsageError(f"--referrers: {source} cannot say what is attached to it")
        at_digest(target, Digest.of(b""))
    if extras.digest_tags:
        _with_tag(source, "any")
        _with_tag(target, "any")


def digest_tags(tags: Sequence[str], digests: Sequence[Digest]) -> list[str]:
    """The tags that name one of these digests and say more, such as ``sha256-HEX.sig``.

    The bare ``sha256-HEX`` is the list of referrers where there is no API for it: who wants those
    asks for referrers, and they are entered in the list at the destination one by one.
    """
    prefixes = tuple(fallback_tag(digest) for digest in digests)
    return [tag for tag in tags if tag.startswith(prefixes) and tag not in prefixes]


def at_digest(place: ImageLocation, digest: Digest) -> ImageLocation:
    """The same repository or layout, for what has no tag. Raises UsageError."""
    if place.reference is not None:
        return replace(place, reference=place.reference.bare().with_digest(digest))
    if place.transport == "oci":
        return replace(place, tag="")
    raise UsageError(f"{place} holds one image: what is attached needs a registry or oci:DIR")


def _with_tag(place: ImageLocation, tag: str) -> ImageLocation:
    if place.reference is not None:
        return replace(place, reference=place.reference.bare().with_tag(tag))
    if place.transport == "oci":
        return replace(place, tag=tag)
    raise UsageError(f"{place} holds one image: digest tags need a registry or oci:DIR")


def backup_of(target: ImageLocation, words: str) -> ImageLocation:
    """Where a backup goes: another tag, or where there is a ``:`` or ``/`` a name of its own.

    ``{{.Ref.Tag}}``, ``{{.Ref.Repository}}`` and ``{{.Ref.Registry}}`` stand for the target's.
    Raises UsageError.
    """
    reference = target.reference
    if reference is None:
        raise UsageError(f"backup: {target} is no name in a registry")
    for word, value in (
        ("Tag", reference.tag or ""),
        ("Repository", reference.repository),
        ("Registry", reference.registry),
    ):
        for form in (f"{{{{.Ref.{word}}}}}", f"{{{{ .Ref.{word} }}}}"):
            words = words.replace(form, value)
    if "{{" in words:
        raise UsageError(f"backup: {words[:80]!r} has a template that is not known here")
    if ":" in words or "/" in words:
        return ImageLocation.parse(words)
    return replace(target, reference=reference.bare().with_tag(words))
