"""Conversions: made once, for as long as somebody waits, and kept with the image."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.bounds import Bounds
from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, DiskFull, Fault, IngestAborted
from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.conversion.conversions import Conversions, Converted, Others
from registryd.conversion.making import Terms
from registryd.conversion.recipe import Recipe
from registryd.conversion.run import Run
from registryd.images.errors import NotAnImage, NotMade
from registryd.oci.errors import ManifestInvalid
from registryd.oci.manifest import Manifest
from registryd.oci.media_types import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.transfer.cached import CachedSink
from registryd.transfer.copy import copy_image
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.endpoints import MemorySource, Sample, wire, written
from tests.fakes.waiting import until
from tests.images.layers.trees import layer, member
from tests.real.runtimes import need

NAME = Reference.parse("localhost/app:1")
OTHER = Reference.parse("localhost/other:1")
SQUASHFS = Recipe()
LOW = layer(member("etc", kind="d"), member("etc/motd", b"hello\n"), member("x", b"x" * 300_000))
HIGH = layer(member("etc/.wh.motd"), member("etc/mine", b"mine\n"))


def sample(*layers: bytes, config: dict[str, object] | None = None, kind: str = "") -> Sample:
    """An image with these layers and this configuration; by default one that tells the truth."""
    plain = [gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw in layers]
    told = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(raw)) for raw in plain]},
    }
    raw_config = json.dumps(told if config is None else config).encode()
    document = written(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": wire(Descriptor.of(OCI_CONFIG, raw_config)),
            "layers": [wire(Descriptor.of(kind or _kind(raw), raw)) for raw in layers],
        }
    )
    blobs = {Digest.of(raw): raw for raw in (raw_config, *layers)}
    return Sample(document, {document.digest: document}, blobs)


def _kind(raw: bytes) -> str:
    return OCI_LAYER_GZIP if raw[:2] == b"\x1f\x8b" else OCI_LAYER


class Place:
    """A node's conversions in a folder, with programs of its own before the system's."""

    def __init__(self, folder: Path) -> None:
        need("tar2sqfs")
        self.folder = folder
        self.root = folder / "cache"
        self.programs = folder / "programs"
        self.programs.mkdir(parents=True)
        self.log = folder / "log"
        self.environ = {"PATH": f"{self.programs}:{os.defpath}"}

    def program(self, *lines: str) -> None:
        """Let tar2sqfs be this script, which counts itself and can go on as ``real``."""
        real = shutil.which("tar2sqfs", path=os.defpath)
        script = self.programs / "tar2sqfs"
        script.write_text(
            "\n".join(
                (
                    "#!/bin/sh",
                    f'real() {{ exec {real} "$@"; }}',
                    '[ "$1" = --version ] && real "$@"',
                    f"echo >> {self.log}",
                    *lines,
                )
            )
        )
        script.chmod(0o755)

    @property
    def begun(self) -> int:
        """How often the program was started."""
        return len(self.log.read_bytes()) if self.log.exists() else 0

    @asynccontextmanager
    async def opened(self, others: Others | None = None) -> AsyncIterator[Node]:
        """The node."""
        async with (
            BlobStore.open(self.root) as store,
            Flights.open(store, TransferConfig()) as flights,
        ):
            library = Library(store, flights, policy=TagPolicy({}), clock=lambda: 0.0)
            await library.restore(own=True)
            terms = Terms(self.environ)
            async with Conversions.open(library, store, terms, jobs=2, others=others) as found:
                yield Node(store, library, found)

    def left(self) -> list[str]:
        """What lies in the ingest area."""
        return os.listdir(self.root / "ingest")


class Node:
    """What the tests ask."""

    def __init__(self, store: BlobStore, library: Library, conversions: Conversions) -> None:
        self.store = store
        self.library = library
        self.conversions = conversions

    async def hold(self, image: Sample, name: Reference = NAME) -> Manifest:
        """Put an image into the cache."""
        await copy_image(MemorySource(image), CachedSink(self.library, self.store, name))
        assert isinstance(image.root, Manifest)
        return image.root

    async def converted(
        self, image: Manifest, name: Reference = NAME, recipe: Recipe = SQUASHFS
    ) -> Converted:
        """The image as one file."""
        return await self.conversions.converted(None, name, image, recipe, lambda at, total: None)

    def ask(self, image: Manifest, name: Reference = NAME) -> asyncio.Task[Converted]:
        """The same, not waited for."""
        return asyncio.ensure_future(self.converted(image, name))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_one_for_all_who_ask(place: Place) -> None:
    """Two names ask at once, and who began it leaves: the other gets it, of one run."""
    place.program("read go < " + str(place.folder / "gate"), 'real "$@"')
    os.mkfifo(place.folder / "gate")
    async with place.opened() as node:
        image = await node.hold(sample(LOW, HIGH))
        await node.hold(sample(LOW, HIGH), OTHER)
        first = node.ask(image)
        await until(lambda: place.begun == 1)
        second = node.ask(image, OTHER)
        await until(lambda: node.conversions.waiting == 2)
        first.cancel()
        await until(lambda: node.conversions.waiting == 1)
        await asyncio.to_thread((place.folder / "gate").write_text, "go\n")
        made = await second
        again = await node.converted(image)
        begun = place.begun
        place.program('real "$@"')
        packed = await node.converted(image, recipe=Recipe(compressor="gzip"))
        blob = node.store.find(made.blob.digest)
        assert blob is not None
        content = blob.path.read_bytes()

        assert first.cancelled()
        assert (True, False, 1) == (made.made, again.made, begun)
        assert packed.made
        assert packed.blob != made.blob
        assert made.document == again.document
        assert hashlib.sha256(content).hexdigest() == made.blob.digest.hex
        for name in (NAME.name, OTHER.name):
            assert await node.store.is_member(name, made.blob.digest)
            assert await node.store.is_member(name, made.document.digest)
    assert [] == place.left()


async def test_nobody_waits_any_more(place: Place) -> None:
    """With the last who leaves the program ends and nothing is left; who comes then gets it."""
    place.program("read go < " + str(place.folder / "gate"), 'real "$@"')
    os.mkfifo(place.folder / "gate")
    async with place.opened() as node:
        image = await node.hold(sample(LOW))
        before = set(node.store.held)
        asked = node.ask(image)
        await until(lambda: place.begun == 1)
        asked.cancel()
        await asyncio.wait([asked])
        await until(lambda: not place.left())
        assert before == set(node.store.held)
        place.program('real "$@"')
        assert (await node.converted(image)).made
    assert [] == place.left()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["head -c 1000 > /dev/null", "echo it broke >&2", "exit 1"], "status 1: it broke"),
        (["cat > /dev/null", "exit 0"], "no whole squashfs"),
        (["kill -9 $$"], "signal 9"),
    ],
)
async def test_a_program_that_fails(place: Place, script: list[str], said: str) -> None:
    """One line for all who wait; nothing is published, nothing is left."""
    place.program(*script)
    async with place.opened() as node:
        image = await node.hold(sample(LOW))
        before = set(node.store.held)
        asked = [node.ask(image), node.ask(image)]
        await asyncio.wait(asked)

        for task in asked:
            error = task.exception()
            assert isinstance(error, NotMade)
            assert said in str(error)
            assert "\n" not in str(error)
        assert before == set(node.store.held)
        assert {} == await node.store.unreferenced()
        assert [] == place.left()


async def test_no_room_for_what_was_made(place: Place) -> None:
    """The blob comes before the manifest that names it: where it finds no room, neither is there,
    and the image is converted when there is."""
    async with place.opened() as node:
        image = await node.hold(sample(LOW))
        before = set(node.store.held)
        async with node.store.lease() as lease:
            await lease.hold(image.digest)
            node.store.room.bound(Bounds(node.store.size + 3000))  # the manifest alone fits
            with pytest.raises(DiskFull, match="no room for"):
                await node.converted(image)

            assert (before, []) == (set(node.store.held), await node.store.made.of(image.digest))
            assert [] == place.left()
            node.store.room.bound(Bounds())
            assert (await node.converted(image)).made


class Idle:
    """Other nodes that make nothing, and note whether who asks could."""

    def __init__(self) -> None:
        self.able: list[bool] = []

    async def bring(self, remote: Remote | None, reference: Reference, run: Run) -> Manifest | None:
        self.able.append(run.able)
        return None


async def test_without_the_program(place: Place) -> None:
    """Others are asked, and told that it is missed here; then it is, before anything is fetched,
    and the line names the package."""
    others = Idle()
    async with place.opened(others) as node:
        await node.converted(await node.hold(sample(LOW)))
    place.environ["PATH"] = str(place.programs)
    async with place.opened(others) as node:
        image = sample(LOW).root
        assert isinstance(image, Manifest)
        with pytest.raises(NotMade, match=r"not on the PATH \(Debian: squashfs-tools-ng\)"):
            await node.converted(image, recipe=Recipe(compressor="gzip"))

    assert [True, False] == others.able


GIVEN = {"os": "linux", "architecture": "amd64"}


def says(*layers: bytes) -> dict[str, object]:
    """A configuration that tells of these layers."""
    ids = [str(Digest.of(raw)) for raw in layers]
    return {**GIVEN, "rootfs": {"type": "layers", "diff_ids": ids}}


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (lambda: sample(LOW, HIGH, config=says(LOW, LOW)), DigestMismatch, "layer 2 unpacks to"),
        (lambda: sample(LOW, LOW, config=says(LOW, HIGH)), DigestMismatch, "cannot unpack to"),
        (lambda: sample(LOW, config=says(LOW, HIGH)), ManifestInvalid, "1 layers, but its conf"),
        (lambda: sample(b"x", kind="text/x.note"), NotAnImage, "it holds text/x.note"),
        (lambda: sample(layer(member("../x", b""))), NotAnImage, "leads out of the image"),
        (lambda: sample(LOW[:-100_000]), NotAnImage, "cut off"),
    ],
    ids=["diff_id", "twice", "count", "artifact", "outside", "cut"],
)
async def test_bad_images(place: Place, bad, kind: type[Fault], said: str) -> None:
    """One line, nothing published, nothing left."""
    async with place.opened() as node:
        image = await node.hold(bad())
        before = set(node.store.held)
        with pytest.raises(kind, match=said) as raised:
            await node.converted(image)

        assert "\n" not in str(raised.value)
        assert before == set(node.store.held)
        assert [] == place.left()


async def test_a_poor_configuration_is_enough(place: Place) -> None:
    """Without history and diff IDs an image is converted like any other, to the same bytes."""
    async with place.opened() as node:
        poor = await node.converted(await node.hold(sample(LOW, HIGH, config={**GIVEN})))
        rich = await node.converted(await node.hold(sample(gzip.compress(LOW), HIGH), OTHER), OTHER)

    assert poor.blob == rich.blob
    assert poor.document.subject != rich.document.subject


@pytest.mark.parametrize("lost", [False, True])
async def test_it_lives_and_goes_with_its_image(place: Place, lost: bool) -> None:
    """A name of the image keeps it, over a restart and the loss of cache.db; nothing else does."""
    async with place.opened() as node:
        image = await node.hold(sample(LOW))
        made = await node.converted(image)
        await node.store.tag(str(OTHER), OTHER.name, image.descriptor)
        assert await node.store.is_complete(image.descriptor)
    if lost:
        for path in place.root.glob("cache.db*"):
            path.unlink()
    async with place.opened() as node:
        everything = set(node.store.held)
        await node.store.untag(str(NAME))
        assert {} == await node.store.unreferenced()
        assert {} == await node.store.remove(everything)
        again = await node.converted(image, OTHER)
        assert (False, made.document) == (again.made, again.document)
        assert made.blob.digest not in await node.store.closure(image.digest)
        await node.store.untag(str(OTHER))

        assert everything == set(await node.store.unreferenced())
        whole = await node.store.closure(image.digest, made=True)
        assert everything == set(await node.store.remove(whole))


async def test_who_says_it_was_made_is_not_believed(place: Place) -> None:
    """An artifact that somebody attached, however it names its recipe, is no conversion."""
    async with place.opened() as node:
        image = await node.hold(sample(LOW))
        made = await node.converted(image)
        forged = made.document.raw.replace(
            made.blob.digest.hex.encode(), image.config.digest.hex.encode()
        )
        other = await node.hold(sample(LOW, HIGH), OTHER)
        forged = forged.replace(image.digest.hex.encode(), other.digest.hex.encode())
        document = written(json.loads(forged))
        await node.library.keep(OTHER.name, document)
        found = await node.converted(other, OTHER)

        assert found.made
        assert found.blob.digest != image.config.digest


async def test_a_node_that_ends(place: Place) -> None:
    """Who waits when the node ends is told, and nothing is left."""
    place.program("read go < " + str(place.folder / "gate"), 'real "$@"')
    os.mkfifo(place.folder / "gate")
    async with place.opened() as node:
        asked = node.ask(await node.hold(sample(LOW)))
        await until(lambda: place.begun == 1)
    with pytest.raises(IngestAborted, match="was stopped"):
        await asked
    assert [] == place.left()
