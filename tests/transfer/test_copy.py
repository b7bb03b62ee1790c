"""The copy verb over in-memory endpoints: order, selection, counts, events, failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, Fault, SizeMismatch
from registryd.images.layout import LayoutSink, LayoutSource
from registryd.oci.errors import BlobUnknown, ManifestInvalid, PlatformUnknown
from registryd.oci.media_types import OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from registryd.oci.platform import Platform
from registryd.ports import Sink, Source, TransportError
from registryd.transfer.copy import Copied, copy_image
from registryd.transfer.report import Event
from tests.contract.sink import SinkContract
from tests.contract.source import SourceContract
from tests.fakes.endpoints import MemorySink, MemorySource, Sample, image, index, wire, written

AMD = Platform.parse("linux/amd64")
ARM = Platform.parse("linux/arm64")
RISC = Platform.parse("linux/riscv64")


def three() -> Sample:
    """An index of three platforms; the layer "shared" is in all."""
    return index(
        amd64=image(b"shared", b"amd layer"),
        arm64=image(b"shared", b"arm layer", architecture="arm64"),
        riscv64=image(b"shared", b"risc layer", architecture="riscv64"),
    )


def layer(content: bytes) -> Descriptor:
    """The descriptor of a layer."""
    return Descriptor.of(OCI_LAYER, content)


class TestMemorySinkContract(SinkContract):
    """The fake sink is a Sink."""

    @pytest.fixture
    def sink(self, place: Path) -> Sink:
        return MemorySink()

    def reader(self, sink: Sink, place: Path) -> Source:
        assert isinstance(sink, MemorySink)
        return MemorySource(sink.image())

    def leftovers(self, sink: Sink, place: Path) -> list[str]:
        assert isinstance(sink, MemorySink)
        return [str(digest) for digest in sink.blobs]


class TestMemorySourceContract(SourceContract):
    """The fake source is a Source."""

    @pytest.fixture
    def source(self, sample: Sample, tmp_path: Path) -> Source:
        return MemorySource(sample)


class TestGraph:
    """What is copied, and in which order."""

    async def test_an_index_is_copied_whole(self) -> None:
        """By default every platform comes along, and the digest stays."""
        sample, sink = three(), MemorySink()
        copied = await copy_image(MemorySource(sample), sink)

        assert sample.root == sink.root
        assert (sample.blobs, sample.documents) == (sink.blobs, sink.documents)
        assert sample.root.descriptor == copied.descriptor

    async def test_children_come_first_and_the_root_last(self) -> None:
        """Nothing is put before what it points to."""
        inner = index(amd64=index(amd64=three()))
        sample = index(amd64=inner, arm64=image(b"other", architecture="arm64"))
        sink = MemorySink()
        await copy_image(MemorySource(sample), sink, jobs=8)
        place = {digest: position for position, digest in enumerate(sink.log)}
        edges = [(c.digest, d.digest) for d in sample.documents.values() for c in d.children]

        assert sink.log[-1] == sample.root.digest
        assert all(place[child] < place[parent] for child, parent in edges)

    async def test_a_manifest_at_two_depths_comes_before_both(self) -> None:
        """A manifest that root and an inner index share is put before the inner index."""
        shared = image(b"shared")
        inner = index(amd64=shared)
        sample = index(riscv64=inner, amd64=shared)
        sink = MemorySink()
        await copy_image(MemorySource(sample), sink)

        assert [shared.root.digest, inner.root.digest, sample.root.digest] == sink.log[-3:]

    async def test_each_digest_is_moved_once(self) -> None:
        """A layer of three platforms is opened once and logged once."""
        inner = image(b"shared")
        sample = index(amd64=three(), arm64=index(riscv64=inner, s390x=three()), s390x=inner)
        source, sink = MemorySource(sample), MemorySink()
        await copy_image(source, sink)

        assert 1 == source.opened.count(layer(b"shared").digest)
        assert len(set(source.read)) == len(source.read)
        assert len(set(sink.log)) == len(sink.log)

    async def test_a_dense_graph_is_walked_once(self) -> None:
        """Indexes that all list all of the next level cost no more than their number."""
        level = [image(bytes([number])) for number in range(20)]
        for _ in range(6):
            level = [
                index(**{f"a{turn}x{at}": sample for at, sample in enumerate(level)})
                for turn in range(20)
            ]
        sample, sink = index(amd64=level[0]), MemorySink()
        await copy_image(MemorySource(sample), sink)

        assert sample.root == sink.root

    async def test_what_is_there_is_not_moved(self) -> None:
        """Held blobs are neither opened nor put; the counts say so."""
        sample = image(b"held!", b"new")
        source, sink = MemorySource(sample), MemorySink()
        sink.blobs[layer(b"held!").digest] = b"held!"
        copied = await copy_image(source, sink)
        config = sample.root.children[0].size

        assert Copied(sample.root.descriptor, config + 3, 2, 5, 1) == copied
        assert layer(b"held!").digest not in source.opened

    async def test_a_blob_that_the_sink_mounts_is_not_sent(self) -> None:
        """A sink that needs no body has the blob from elsewhere: it counts as held."""
        sample, seen = image(b"mounted"), list[Event]()
        sink = MemorySink(mountable=frozenset({layer(b"mounted").digest}))
        copied = await copy_image(MemorySource(sample), sink, report=seen.append)

        assert (1, 7) == (copied.held_blobs, copied.held)
        assert "mounted" in [event.get("state") for event in seen]

    async def test_a_foreign_layer_stays_where_it_is(self) -> None:
        """A layer with URLs of its own is not asked for."""
        members = json.loads(image(b"own").root.raw)
        foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        members["layers"].append(
            wire(Descriptor.of(foreign, b"elsewhere"), urls=["https://example.com/layer"])
        )
        sample = image(b"own")
        sample.root = written(members)
        sink = MemorySink()
        await copy_image(MemorySource(sample), sink)

        assert set(sample.blobs) == set(sink.blobs)

    async def test_an_index_in_a_loop_of_depth_is_refused(self) -> None:
        """Indexes in indexes end at a limit."""
        sample = image(b"deep")
        for _ in range(12):
            sample = index(amd64=sample)
        with pytest.raises(ManifestInvalid, match="indexes in indexes"):
            await copy_image(MemorySource(sample), MemorySink())
        with pytest.raises(ManifestInvalid, match="indexes in indexes"):
            await copy_image(MemorySource(sample), MemorySink(), platforms=[AMD])

    async def test_manifests_of_a_monstrous_size_are_not_read(self) -> None:
        """An index that announces more manifests than memory should hold is refused."""
        entries = [
            wire(Descriptor(OCI_MANIFEST, Digest.of(bytes([n])), 4 << 20)) for n in range(64)
        ]
        members = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        with pytest.raises(ManifestInvalid, match="are allowed"):
            await copy_image(MemorySource(Sample(written(members))), MemorySink())

    async def test_two_sizes_of_one_digest_are_refused(self) -> None:
        """Two descriptors that contradict each other cannot both be true."""
        members = json.loads(image(b"one").root.raw)
        members["layers"][0]["size"] = 99
        sample = image(b"one")
        other = written(members)
        both = index(amd64=sample, arm64=Sample(other, {other.digest: other}))
        with pytest.raises(SizeMismatch, match="announced with 3 and 99"):
            await copy_image(MemorySource(both), MemorySink())


class TestPlatforms:
    """Which part of an index is copied."""

    async def test_one_platform_becomes_the_root(self) -> None:
        """One platform: its manifest is the root, and nothing of the others is moved."""
        sample, sink = three(), MemorySink()
        copied = await copy_image(MemorySource(sample), sink, platforms=[ARM])
        wanted = image(b"shared", b"arm layer", architecture="arm64")

        assert (wanted.root, wanted.blobs) == (sink.root, sink.blobs)
        assert wanted.root.descriptor == copied.descriptor

    async def test_several_platforms_keep_the_index(self) -> None:
        """Several: the index stays byte for byte, and only their manifests are present."""
        sample, sink = three(), MemorySink()
        await copy_image(MemorySource(sample), sink, platforms=[AMD, ARM])
        children = [child.digest for child in sample.root.children]

        assert sample.root == sink.root
        assert {*children[:2], sample.root.digest} == set(sink.documents)
        assert layer(b"risc layer").digest not in sink.blobs

    async def test_an_inner_index_is_followed(self) -> None:
        """One platform that an index in the index holds is found there."""
        sink = MemorySink()
        await copy_image(MemorySource(index(amd64=three())), sink, platforms=[AMD])

        assert image(b"shared", b"amd layer").root == sink.root

    @pytest.mark.parametrize("platforms", [[RISC], [AMD, RISC]])
    async def test_a_missing_platform_is_told(self, platforms: list[Platform]) -> None:
        """A platform that the index lacks: the error lists those it has, nothing is put."""
        sample = index(amd64=image(b"a"), arm64=image(b"b", architecture="arm64"))
        sink = MemorySink()
        with pytest.raises(PlatformUnknown, match="linux/amd64, linux/arm64"):
            await copy_image(MemorySource(sample), sink, platforms=platforms)

        assert [] == sink.log

    async def test_a_plain_image_of_another_platform_is_told(self) -> None:
        """An image without an index says its platform in its config, which is looked at."""
        sink = MemorySink()
        with pytest.raises(PlatformUnknown, match=r"for linux/riscv64 in .*it is for linux/amd64"):
            await copy_image(MemorySource(image(b"a")), sink, platforms=[RISC])

        assert [] == sink.log

    async def test_a_plain_image_of_that_platform_is_copied(self) -> None:
        """The platform asked for is the one the config names."""
        sink = MemorySink()
        await copy_image(MemorySource(image(b"a")), sink, platforms=[AMD])

        assert image(b"a").root == sink.root

    async def test_an_entry_without_a_platform_is_looked_into(self) -> None:
        """An index that names no platform is no excuse for the wrong image."""
        sample = image(b"a", architecture="arm64")
        root = written(
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [wire(sample.root.descriptor)],
            }
        )
        sample.root = root
        with pytest.raises(PlatformUnknown, match="it is for linux/arm64"):
            await copy_image(MemorySource(sample), MemorySink(), platforms=[AMD])


class TestEvents:
    """What is told while a copy runs."""

    async def test_every_blob_is_told(self) -> None:
        """Each blob waits first and is done at the end; its last progress is its size."""
        sample, seen = image(b"x" * 200_000), list[Event]()
        await copy_image(MemorySource(sample), MemorySink(), report=seen.append)
        digest = str(layer(b"x" * 200_000).digest)
        told = [e for e in seen if e["digest"] == digest]

        assert ["waiting", "pushing", "done"] == [e["state"] for e in told if "state" in e]
        assert [200_000] == [e["offset"] for e in told if e["event"] == "progress"][-1:]
        assert {"config", "layer", "manifest"} == {e["kind"] for e in seen if "kind" in e}
        assert "memory" == told[1]["source"]

    async def test_progress_is_limited_by_the_clock(self) -> None:
        """Between two progress events of one blob the interval passes, whatever the pieces."""
        sample, seen = image(b"x" * (640 << 10)), list[Event]()
        await copy_image(MemorySource(sample), MemorySink(), report=seen.append, clock=lambda: 0.0)
        offsets = [
            e["offset"]
            for e in seen
            if e["event"] == "progress" and e["digest"] == str(layer(b"x" * (640 << 10)).digest)
        ]

        assert [64 << 10, 640 << 10] == offsets


class Gate:
    """Blobs that wait until the test lets them go."""

    def __init__(self, sample: Sample, *contents: bytes) -> None:
        self.events = {layer(content).digest: asyncio.Event() for content in contents}
        self.source = MemorySource(sample, gates=self.events)


async def settled(task: asyncio.Future[Copied], claim: Callable[[], bool]) -> None:
    """Let everything run that can, until the claim holds."""
    while not claim():
        assert not task.done()
        await asyncio.sleep(0)


class TestConcurrency:
    """Several at once, and how they end."""

    CONTENTS = (b"1", b"2", b"3", b"4", b"5")

    async def test_no_more_than_jobs_at_once(self) -> None:
        """The limit holds, and is used."""
        gate = Gate(image(*self.CONTENTS), *self.CONTENTS)
        task = asyncio.ensure_future(copy_image(gate.source, MemorySink(), jobs=3))
        await settled(task, lambda: gate.source.open_now == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        most = gate.source.open_most
        for event in gate.events.values():
            event.set()
        await task

        assert (3, 3) == (most, gate.source.open_most)

    @pytest.mark.parametrize(
        "fault", [TransportError("no way"), BlobUnknown("gone"), ValueError("a bug")]
    )
    async def test_one_failure_ends_all(self, fault: Exception) -> None:
        """The first failure comes out as itself, the others stop, and no manifest is put."""
        gate = Gate(image(*self.CONTENTS), b"1", b"2")
        gate.source.faults[layer(b"3").digest] = fault
        sink = MemorySink()
        with pytest.raises(type(fault)) as caught:
            await copy_image(gate.source, sink, jobs=8)

        assert fault is caught.value
        assert 0 == gate.source.open_now
        assert {} == sink.documents

    async def test_several_failures_give_one(self) -> None:
        """Two blobs that fail at the same instant raise one Fault, not a group."""
        gate = Gate(image(b"1", b"2"), b"1", b"2")
        for content in (b"1", b"2"):
            gate.source.faults[layer(content).digest] = BlobUnknown("gone")
        task = asyncio.ensure_future(copy_image(gate.source, MemorySink(), jobs=8))
        await settled(task, lambda: gate.source.open_now == 2)
        for event in gate.events.values():
            event.set()
        with pytest.raises(BlobUnknown):
            await task

    async def test_a_wrong_blob_ends_the_copy(self) -> None:
        """What does not hash to its digest is refused, and no manifest names it."""
        sample, sink = image(b"right"), MemorySink()
        sample.blobs[layer(b"right").digest] = b"wrong"
        with pytest.raises(DigestMismatch):
            await copy_image(MemorySource(sample), sink)

        assert {} == sink.documents

    async def test_a_missing_child_ends_the_copy(self) -> None:
        """An index with a manifest that the source lacks is not copied in part."""
        sample, sink = three(), MemorySink()
        del sample.documents[sample.root.children[1].digest]
        with pytest.raises(Fault):
            await copy_image(MemorySource(sample), sink)

        assert [] == sink.log

    async def test_cancelled_in_a_blob(self) -> None:
        """A copy that is cancelled closes what it had open and puts no manifest."""
        gate = Gate(image(*self.CONTENTS), *self.CONTENTS)
        sink = MemorySink()
        task = asyncio.ensure_future(copy_image(gate.source, sink, jobs=2))
        await settled(task, lambda: gate.source.open_now == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (0, {}) == (gate.source.open_now, sink.documents)

    async def test_a_second_try_sends_only_the_rest(self, tmp_path: Path) -> None:
        """What a failed copy to a layout had finished is held by the next one."""
        sample = image(*self.CONTENTS)
        source = MemorySource(sample, faults={layer(b"5").digest: TransportError("broke")})
        with pytest.raises(TransportError):
            await copy_image(source, LayoutSink(tmp_path, "t"), jobs=1)
        source.faults.clear()
        copied = await copy_image(source, LayoutSink(tmp_path, "t"), jobs=1)

        assert (1, 5) == (copied.sent_blobs, copied.held_blobs)
        assert sample.root == await LayoutSource(tmp_path, "t").root()
