"""oci-archive: the contract suites, and what is an archive's own."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zstandard

from cache.content import Descriptor
from cache.errors import SizeMismatch
from registryd.images.archive import TarArchive, open_archive
from registryd.images.archive_sink import ArchiveSink, ArchiveWriter
from registryd.images.archive_source import ArchiveSource
from registryd.images.archive_target import open_writer
from registryd.images.errors import NotAnImage, PathUnusable
from registryd.oci.errors import BlobUnknown, ManifestUnknown, UsageError
from registryd.oci.manifest import Document
from registryd.oci.media_types import OCI_LAYER
from registryd.oci.reference import Reference
from registryd.ports import Body, Sink, Source
from registryd.transfer.copy import copy_image
from tests.contract.sink import SinkContract, opener
from tests.contract.source import SourceContract
from tests.fakes.endpoints import MemorySource, Sample, image, index, wire, written
from tests.images.archives import entry, files, read_oci, tar, write_archive

SAMPLE = index(amd64=image(b"a" * 700), arm64=image(b"b", architecture="arm64"))


class Finished:
    """Reads an archive after its writer has finished."""

    def __init__(self, writer: ArchiveWriter) -> None:
        self._writer = writer

    def _source(self) -> ArchiveSource:
        self._writer.finish()
        return ArchiveSource(TarArchive(self._writer._file, Path("written")))

    async def root(self) -> Document:
        """As the archive has it."""
        return await self._source().root()

    async def manifest(self, descriptor: Descriptor) -> Document:
        """As the archive has it."""
        return await self._source().manifest(descriptor)

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor) -> AsyncIterator[Body]:
        """As the archive has it."""
        async with self._source().blob(descriptor) as body:
            yield body


class TestArchiveSinkContract(SinkContract):
    """An ArchiveSink is a Sink."""

    @pytest.fixture
    async def sink(self, place: Path) -> AsyncIterator[Sink]:
        async with open_writer(place, "oci-archive", spool=place.parent) as writer:
            self.writer = writer
            yield writer.sink("tag")
            writer._roots.clear()  # what these tests put is no whole image

    def reader(self, sink: Sink, place: Path) -> Source:
        return Finished(self.writer)

    def leftovers(self, sink: Sink, place: Path) -> list[str]:
        return [str(digest) for digest in self.writer.blobs]


class TestArchiveSourceContract(SourceContract):
    """An ArchiveSource is a Source."""

    @pytest.fixture
    async def source(self, sample: Sample, tmp_path: Path) -> AsyncIterator[Source]:
        path = await write_archive(tmp_path / "a.tar", "oci-archive", {"": sample})
        async with open_archive(path, spool=tmp_path) as archive:
            yield ArchiveSource(archive)


async def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    """No times, no owners, and an order that does not hang on what arrives first."""
    paths = [
        await write_archive(tmp_path / name, "oci-archive", {"1": SAMPLE}) for name in ("a", "b")
    ]
    with tarfile.open(paths[0]) as archive:
        entries = archive.getmembers()

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert {(0, 0, 0, "", 0o644)} == {(e.mtime, e.uid, e.gid, e.uname, e.mode) for e in entries}


async def test_a_tag_chooses(tmp_path: Path) -> None:
    """Several images lie in one archive; a tag or @N names one, and no tag lists them."""
    images = {"a": image(b"a"), "b": image(b"b")}
    path = await write_archive(tmp_path / "x.tar", "oci-archive", images)
    roots = [(await read_oci(path, tag))[0] for tag in ("a", "b", "@0", "@1")]
    with pytest.raises(ManifestUnknown, match=r"write oci-archive:.*:TAG \(tags: a, b\)"):
        await read_oci(path)
    with pytest.raises(ManifestUnknown, match="no image with the tag '@2'"):
        await read_oci(path, "@2")

    assert [images["a"].root, images["b"].root] * 2 == roots


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, zstandard.compress, bz2.compress, lzma.compress],
    ids=["gzip", "zstd", "bzip2", "xz"],
)
async def test_a_compressed_archive(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """An archive that is compressed as a whole is read; one that is cut off is one line."""
    path = await write_archive(tmp_path / "x.tar", "oci-archive", {"": SAMPLE})
    packed = pack(path.read_bytes())
    path.write_bytes(packed)
    root, sink = await read_oci(path)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(NotAnImage, match=r"damaged|cut off|empty"):
        await read_oci(path)

    assert (SAMPLE.root, SAMPLE.blobs) == (root, sink.blobs)
    assert ["x.tar"] == os.listdir(tmp_path)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress])
async def test_a_bomb(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """What holds far more than its own size is refused before it fills the disk."""
    (tmp_path / "x.tar").write_bytes(pack(bytes(16 << 20)))
    with pytest.raises(NotAnImage, match="more than 100 times its own size"):
        async with open_archive(tmp_path / "x.tar", spool=tmp_path, free=4 << 20):
            pass


@pytest.mark.parametrize(
    ("contents", "error", "message"),
    [
        ({}, NotAnImage, "no file oci-layout"),
        ({"manifest.json": b"[]"}, NotAnImage, "but docker-archive: reads it"),
        ({"oci-layout": b"{}"}, NotAnImage, "of version ''"),
        ({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}, NotAnImage, "no file index.json"),
        (
            {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": b"[]"},
            NotAnImage,
            "index.json is not usable",
        ),
        ({"oci-layout": bytes(5000)}, NotAnImage, "5000 bytes, 4096 are allowed"),
    ],
)
async def test_what_is_no_archive_of_an_image(
    tmp_path: Path, contents: dict[str, bytes], error: type[Exception], message: str
) -> None:
    """One line says what is missing."""
    (tmp_path / "x.tar").write_bytes(files(contents or {"etc/passwd": b"root"}))
    with pytest.raises(error, match=message):
        await read_oci(tmp_path / "x.tar")


async def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, a missing file and an empty one are one line each."""
    (tmp_path / "empty").touch()
    for name, error in (("", NotAnImage), ("missing", PathUnusable), ("empty", NotAnImage)):
        with pytest.raises(error):
            await read_oci(tmp_path / name)


async def test_an_incomplete_archive(tmp_path: Path) -> None:
    """A blob that is missing, and one of another length, are told with their digest."""
    path = await write_archive(tmp_path / "x.tar", "oci-archive", {"": image(b"layer")})
    layer = Descriptor.of(OCI_LAYER, b"layer")
    name = f"blobs/sha256/{layer.digest.hex}"
    with tarfile.open(path) as archive:
        kept = {e.name: archive.extractfile(e).read() for e in archive if e.name != name}  # type: ignore[union-attr]
    path.write_bytes(files(kept))
    with pytest.raises(BlobUnknown, match="not complete"):
        await read_oci(path)
    path.write_bytes(files({**kept, name: b"longer than that"}))
    with pytest.raises(SizeMismatch, match="has 16 bytes where 5"):
        await read_oci(path)


async def test_blobs_behind_links(tmp_path: Path) -> None:
    """A blob may be a link to another place of the archive."""
    path = await write_archive(tmp_path / "x.tar", "oci-archive", {"": image(b"layer")})
    name = f"blobs/sha256/{Descriptor.of(OCI_LAYER, b'layer').digest.hex}"
    with tarfile.open(path) as archive:
        members = [(entry(e.name, r := archive.extractfile(e).read()), r) for e in archive]  # type: ignore[union-attr]
    moved = [(entry("./far/away", raw), raw) if e.name == name else (e, raw) for e, raw in members]
    path.write_bytes(tar(*moved, (entry(name, link="../../far/away"), b"")))

    assert image(b"layer").root == (await read_oci(path))[0]


class TestTheFile:
    """The archive appears when it is whole, and not before."""

    async def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        """A copy that fails leaves neither the file nor a part of it."""
        source = MemorySource(SAMPLE, faults={next(iter(SAMPLE.blobs)): OSError("no")})
        with pytest.raises(OSError, match="no"):
            async with open_writer(tmp_path / "x", "oci-archive", spool=tmp_path) as writer:
                await copy_image(source, writer.sink())

        assert [] == os.listdir(tmp_path)

    async def test_what_is_there_stays(self, tmp_path: Path) -> None:
        """A file that exists is not touched, unless it is empty or was to be replaced."""
        path = tmp_path / "x"
        path.write_bytes(b"precious")
        with pytest.raises(UsageError, match="exists, and an archive is not added to"):
            await write_archive(path, "oci-archive", {"": SAMPLE})
        kept = path.read_bytes()
        await write_archive(path, "oci-archive", {"": SAMPLE}, replace=True)
        replaced = (await read_oci(path))[0]
        path.write_bytes(b"")
        await write_archive(path, "oci-archive", {"": SAMPLE})

        assert (b"precious", SAMPLE.root) == (kept, replaced)
        assert SAMPLE.root == (await read_oci(path))[0]
        assert ["x"] == os.listdir(tmp_path)

    async def test_a_pipe_gets_the_whole(self, tmp_path: Path) -> None:
        """What is no regular file gets the archive at the end, and can be read as one."""
        os.mkfifo(tmp_path / "pipe")
        pipe = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
        try:
            await write_archive(tmp_path / "pipe", "oci-archive", {"": SAMPLE})
            raw = os.read(pipe, 1 << 20)
        finally:
            os.close(pipe)
        (tmp_path / "x").write_bytes(raw)

        assert SAMPLE.root == (await read_oci(tmp_path / "x"))[0]

    async def test_a_reader_that_leaves(self, tmp_path: Path) -> None:
        """A pipe that is closed before its end is a broken pipe, as for every other program."""
        here, there = os.pipe()
        os.close(here)
        try:
            with pytest.raises(BrokenPipeError):
                await _stream_to(Path(f"/dev/fd/{there}"), tmp_path)
        finally:
            os.close(there)

        assert [] == os.listdir(tmp_path)

    async def test_a_file_that_cannot_be_made(self, tmp_path: Path) -> None:
        """The line names the archive and the reason; nothing is removed that was not made."""
        folder = tmp_path / "d"  # so deep that a longer name beside the archive's is too long
        while len(str(folder)) < 4000:
            folder /= "d" * 50
        path = folder / ("d" * (4085 - len(str(folder)))) / "e"

        with pytest.raises(
            PathUnusable, match=r"e: (no such file or directory|file name too long)$"
        ):
            await _stream_to(path, tmp_path)

    async def test_a_blob_that_never_came(self, tmp_path: Path) -> None:
        """An archive with a hole is not written."""
        with pytest.raises(SizeMismatch, match="never came"):
            async with open_writer(tmp_path / "x", "oci-archive", spool=tmp_path) as writer:
                sink = ArchiveSink(writer, "")
                await sink.has_blob(Descriptor.of(OCI_LAYER, b"hole"))
                await sink.put_blob(Descriptor.of(OCI_LAYER, b"a"), opener(b"a"))
                await sink.put_manifest(image(b"a").root, root=True)

        assert [] == os.listdir(tmp_path)


async def _stream_to(path: Path, spool: Path) -> None:
    async with open_writer(path, "oci-archive", spool=spool) as writer:
        await copy_image(MemorySource(SAMPLE), writer.sink())


async def test_the_index_says_names_as_others_read_them(tmp_path: Path) -> None:
    """A bare tag is a tag; a whole name stands where docker, and where podman, looks for it."""
    images = {"3.20": image(b"a"), "quay.io/x/app:1": image(b"b")}
    path = await write_archive(tmp_path / "x", "oci-archive", images)
    with tarfile.open(path) as archive:
        listing = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    ref_name, name = "org.opencontainers.image.ref.name", "io.containerd.image.name"

    assert [{ref_name: "3.20"}, {name: "quay.io/x/app:1", ref_name: "quay.io/x/app:1"}] == [
        entry["annotations"] for entry in listing["manifests"]
    ]


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
async def test_what_is_attached_goes_along(tmp_path: Path, form: str, typed: bool) -> None:
    """An artifact that was put beside an image is found by its subject, and is no second image."""
    sample = image(b"layer")
    members = json.loads(sample.root.raw)
    kind = {"artifactType": "application/x.sbom+json"} if typed else {}
    sbom = written({**members, **kind, "subject": wire(sample.root.descriptor)})
    async with open_writer(tmp_path / "x", form, spool=tmp_path) as writer:  # type: ignore[arg-type]
        sink = writer.sink("v1" if form == "oci-archive" else Reference.parse("a.io/b:1"))
        await copy_image(MemorySource(sample), sink)
        await sink.put_manifest(sbom, root=False)
    async with open_archive(tmp_path / "x", spool=tmp_path) as archive:
        source = ArchiveSource(archive)
        found = await source.referrers(sample.root.digest)
        root = await source.root()

    assert [sbom.descriptor] == [entry.descriptor for entry in found]
    assert sample.root == root


async def test_an_xz_that_wants_too_much_memory(tmp_path: Path) -> None:
    """A dictionary of 4 GiB, which a few bytes can ask for, is refused."""
    raw = bytearray(lzma.compress(files({"a": b"x"})))
    end = 12 + (raw[12] + 1) * 4 - 4  # of the block's header, before its sum
    raw[16] = 40
    raw[end : end + 4] = zlib.crc32(raw[12:end]).to_bytes(4, "little")
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(NotAnImage, match="Memory usage limit"):
        await read_oci(tmp_path / "x")
