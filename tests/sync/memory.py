"""Places in memory for plans to be carried out between, and images to put there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import override

from cache.content import Descriptor, Digest
from cache.errors import Fault
from registryd.images.transports import ImageLocation
from registryd.oci.errors import ManifestUnknown
from registryd.oci.manifest import Document, IndexEntry
from registryd.oci.referrers import entry_of
from registryd.ports import Sink, Source
from registryd.sync.plan import ImageStep
from registryd.sync.whole import Extras
from tests.fakes.endpoints import MemorySink, MemorySource, Sample, image, index, wire, written

ONE, TWO = image(b"base", b"one"), image(b"base", b"two")
BOTH = index(amd64=ONE, arm64=image(b"base", b"arm", architecture="arm64"))
R = "a.test/lib/app"


def attached(subject: Sample, content: bytes) -> Sample:
    """An artifact about an image."""
    made = image(content)
    members = {**json.loads(made.root.raw), "subject": wire(subject.root.descriptor)}
    root = written(members)
    return Sample(root, {root.digest: root}, made.blobs)


@dataclass
class Held(MemorySink):
    """A sink whose name means what was put under it."""

    name: str = ""
    memory: Memory | None = None

    async def standing(self) -> Descriptor | None:
        """What the name means."""
        assert self.memory is not None
        found = self.memory.images.get(self.name)
        return None if found is None else found.root.descriptor

    async def has_whole(self, descriptor: Descriptor) -> bool:
        """Whatever is there is whole."""
        found = await self.standing()
        return found is not None and found.digest == descriptor.digest

    @override
    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Enter the name with the root."""
        await super().put_manifest(document, root=root)
        if root and self.memory is not None:
            self.memory.images[self.name] = self.image()
            self.memory.order.append(self.name)

    @override
    def __str__(self) -> str:
        return self.name


@dataclass
class Read(MemorySource):
    """A source that knows its descriptor, and what is attached."""

    memory: Memory | None = None

    async def resolve(self) -> Descriptor:
        """The root's descriptor."""
        assert self.memory is not None
        self.memory.heads += 1
        return self.sample.root.descriptor

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is attached to a manifest."""
        assert self.memory is not None
        self.memory.asked.append(digest)
        return tuple(
            entry_of(sample.root)
            for sample in self.memory.attached
            if sample.root.subject is not None and sample.root.subject.digest == digest
        )


@dataclass
class Memory:
    """Places by their names."""

    images: dict[str, Sample] = field(default_factory=dict)
    attached: list[Sample] = field(default_factory=list)
    broken: dict[str, Fault] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    asked: list[Digest] = field(default_factory=list)
    allowed: dict[str, int] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    heads: int = 0
    busy: int = 0
    most: int = 0

    async def source(self, location: ImageLocation) -> Source:
        """An image, if it is there and does not fail."""
        name = str(location)
        self.busy += 1
        self.most = max(self.most, self.busy)
        if self.gate is not None:
            await self.gate.wait()
        self.busy -= 1
        if name in self.broken:
            raise self.broken[name]
        if name not in self.images:
            raise ManifestUnknown(f"cannot find {name}")
        sample = self.images[name]
        more = {each.root.digest: each.root for each in self.attached}
        blobs = {d: raw for each in self.attached for d, raw in each.blobs.items()}
        whole = Sample(sample.root, sample.documents | more, sample.blobs | blobs)
        return Read(whole, memory=self)

    async def sink(self, location: ImageLocation, origin: ImageLocation) -> Sink:
        """A name to write to."""
        return Held(name=str(location), memory=self)

    async def tags(self, location: ImageLocation) -> Sequence[str]:
        """The tags of a repository."""
        assert location.reference is not None
        prefix = f"{location.reference.name}:"
        return [name.removeprefix(prefix) for name in self.images if name.startswith(prefix)]

    def left(self, registry: str) -> int | None:
        """What is left of the allowance."""
        return self.allowed.get(registry)

    async def repositories(self, registry: str) -> Sequence[str]:
        """All repositories of a registry."""
        names = [name.removeprefix(f"{registry}/") for name in self.images]
        return list(dict.fromkeys(name.partition(":")[0] for name in names))


def at(text: str) -> ImageLocation:
    """A place."""
    return ImageLocation.parse(text)


def bare(text: str) -> ImageLocation:
    """A repository."""
    place = at(text)
    assert place.reference is not None
    return replace(place, reference=place.reference.bare())


def step(source: str, target: str, extras: Extras | None = None) -> ImageStep:
    """One image."""
    return ImageStep(at(source), at(target), extras or Extras())
