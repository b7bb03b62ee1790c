"""docker-archive: classic, hybrid, several images, links, compressed layers; and what we write."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import zstandard

from cache.content import Digest
from cache.errors import DigestMismatch
from registryd.images.archive import open_archive
from registryd.images.archive_source import DockerArchiveSource
from registryd.images.archive_target import open_writer
from registryd.images.docker_archive import Assembly, read_listing
from registryd.images.errors import NotAnImage
from registryd.oci.errors import ManifestInvalid, ManifestUnknown, UsageError
from registryd.oci.manifest import Manifest
from registryd.oci.media_types import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from registryd.oci.platform import Platform
from registryd.ports import Source
from registryd.transfer.copy import copy_image
from tests.contract.source import SourceContract
from tests.fakes.endpoints import MemorySource, Sample, image, index, wire, written
from tests.images.archives import (
    LAYER,
    SECOND,
    Saved,
    entry,
    files,
    read_docker,
    saved,
    sha,
    squeeze,
    tar,
    write_archive,
)

ONE, TWO = Saved(), Saved(layers=(LAYER,), tags=("alpine:3", "alpine:latest"))
NONE = Saved(layers=(LAYER, LAYER), tags=())


class TestDockerArchiveSourceContract(SourceContract):
    """A DockerArchiveSource is a Source; what we write comes out with its own digest."""

    @pytest.fixture
    async def source(self, sample: Sample, tmp_path: Path) -> AsyncIterator[Source]:
        path = await write_archive(tmp_path / "a.tar", "docker-archive", {"": sample})
        async with open_archive(path, spool=tmp_path) as archive:
            yield DockerArchiveSource(archive)


def put(folder: Path, raw: bytes) -> Path:
    """An archive in a file."""
    (folder / "x.tar").write_bytes(raw)
    return folder / "x.tar"


async def test_a_classic_archive(tmp_path: Path) -> None:
    """Its manifest is schema 2: config and layers as they lie there, digests being diffIDs."""
    root, sink = await read_docker(put(tmp_path, saved(ONE)))
    expected = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": DOCKER_CONFIG,
            "size": len(ONE.config),
            "digest": f"sha256:{sha(ONE.config)}",
        },
        "layers": [
            {"mediaType": DOCKER_LAYER, "size": len(raw), "digest": f"sha256:{sha(raw)}"}
            for raw in (LAYER, SECOND)
        ],
    }

    assert expected == json.loads(root.raw)
    assert {ONE.config, LAYER, SECOND} == set(sink.blobs.values())


async def test_layers_that_are_links(tmp_path: Path) -> None:
    """``docker save`` links a layer that two images share; ``podman save`` links each."""
    name = f"{sha(SECOND)}/layer.tar"
    members = {n: raw for n, raw in ONE.members().items() if n != name}
    raw = tar(
        *((entry(n, content), content) for n, content in members.items()),
        (entry("far/layer.tar", SECOND), SECOND),
        (entry(name, link="../far/layer.tar"), b""),
        (entry("manifest.json", r := json.dumps([ONE.listed]).encode()), r),
    )
    plain, _ = await read_docker(put(tmp_path, saved(ONE)))
    linked, _ = await read_docker(put(tmp_path, raw))

    assert plain == linked


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("quay.io/x/app:1", ONE),
        ("docker.io/library/alpine:3", TWO),
        ("docker.io/library/alpine:latest", TWO),
        ("@0", ONE),
        ("@2", NONE),
    ],
)
async def test_one_of_several_images(tmp_path: Path, wanted: str, found: Saved) -> None:
    """By any of its names, or by its position."""
    root, _ = await read_docker(put(tmp_path, saved(ONE, TWO, NONE)), wanted)

    assert isinstance(root, Manifest)
    assert Digest.of(found.config) == root.config.digest


@pytest.mark.parametrize("wanted", ["", "quay.io/x/app:2", "@3"])
async def test_no_choice_lists_what_there_is(tmp_path: Path, wanted: str) -> None:
    """Without a name, or with one that is not there, the line has those there are."""
    with pytest.raises(ManifestUnknown, match=r"there are: quay.io/x/app:1, alpine:3, @2\)"):
        await read_docker(put(tmp_path, saved(ONE, TWO, NONE)), wanted)


@pytest.mark.parametrize(
    ("pack", "manifest", "layer"),
    [
        (squeeze, DOCKER_MANIFEST, DOCKER_LAYER_GZIP),
        (zstandard.compress, OCI_MANIFEST, OCI_LAYER_ZSTD),
    ],
    ids=["gzip", "zstd"],
)
async def test_layers_compressed_inside(
    tmp_path: Path, pack: Callable[[bytes], bytes], manifest: str, layer: str
) -> None:
    """They stay as they are, after their diffIDs were proven; schema 2 knows no zstd."""
    packed = Saved(pack=pack)
    root, sink = await read_docker(put(tmp_path, saved(packed)))

    assert isinstance(root, Manifest)
    assert (manifest, {layer}) == (root.media_type, {each.media_type for each in root.layers})
    assert {packed.config, pack(LAYER), pack(SECOND)} == set(sink.blobs.values())


def spoilt(**more: object) -> bytes:
    """A classic archive whose entry says something else."""
    return files({**ONE.members(), "manifest.json": json.dumps([{**ONE.listed, **more}]).encode()})


BOMB = Saved(layers=(bytes(64 << 20),), pack=lambda raw: zstandard.compress(raw))
SWAPPED = {**ONE.members(), f"{sha(LAYER)}/layer.tar": SECOND}
WRONG = {**ONE.members(), f"{sha(ONE.config)}.json": b"{}"}
LISTED = json.dumps([ONE.listed]).encode()


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (files({"etc/passwd": b"root"}), NotAnImage, "no file manifest.json"),
        (files({"index.json": b"{}"}), NotAnImage, "it may be oci-archive:"),
        (files({"repositories": b"{}"}), NotAnImage, "a Docker before 1.10"),
        (files({"manifest.json": b"{}"}), NotAnImage, "not a JSON list"),
        (files({"manifest.json": b"[1]"}), NotAnImage, r"\[0\] must be an object"),
        (files({"manifest.json": b"[{}]"}), NotAnImage, r"\[0\].Config is missing"),
        (files({"manifest.json": b"[]"}), ManifestUnknown, "holds no image"),
        (files({"manifest.json": bytes(5 << 20)}), NotAnImage, "are allowed"),
        (spoilt(Layers=["a/layer.tar", "b"]), NotAnImage, "lacks a/layer.tar, which its image"),
        (spoilt(Config="no.json"), NotAnImage, "lacks no.json"),
        (spoilt(Config="../../etc/passwd"), NotAnImage, "lacks ../../etc/passwd"),
        (spoilt(Layers=[]), NotAnImage, "has 0 layers, and its config tells of 2"),
        (spoilt(Layers=7), NotAnImage, "Layers must be a list"),
        (files({**SWAPPED, "manifest.json": LISTED}), DigestMismatch, "content hashes to"),
        (files({**WRONG, "manifest.json": LISTED}), DigestMismatch, "not to its name"),
        (saved(Saved(pack=lambda raw: squeeze(raw + b"x"))), DigestMismatch, "its config tells of"),
        (saved(Saved(pack=lambda raw: squeeze(raw)[:-9])), NotAnImage, "is damaged"),
        (saved(Saved(pack=lambda raw: b"BZh9" + raw)), NotAnImage, "no media type"),
        (saved(BOMB), NotAnImage, "more than 1100 times its own size"),
        (saved(Saved(more={"rootfs": 3})), ManifestInvalid, "rootfs must be an object"),
    ],
)
async def test_what_is_refused(
    tmp_path: Path, raw: bytes, error: type[Exception], message: str
) -> None:
    """One line of ours says what is wrong with an archive."""
    with pytest.raises(error, match=message):
        await read_docker(put(tmp_path, raw))


async def test_a_layer_that_is_named_often_is_proven_once(tmp_path: Path) -> None:
    """However often an image names a compressed layer, it is inflated once: the work is bounded."""
    large = files({"zeros": bytes(8 << 20)})
    path = put(tmp_path, saved(Saved(layers=[large] * 100, pack=squeeze)))
    async with open_archive(path, spool=tmp_path) as archive:
        assembly = Assembly(archive, read_listing(archive)[0])
        steps = 0
        while assembly.step():
            steps += 1

    layers = json.loads(assembly.manifest().raw)["layers"]

    assert (100, True) == (len(layers), steps < 120)


class TestWhatWeWrite:
    """A docker-archive of ours is an OCI layout, with the manifest.json that old programs read."""

    async def test_names_and_files(self, tmp_path: Path) -> None:
        """One entry an image with all its names, in Docker's short form; layers unchanged."""
        layer = gzip.compress(LAYER)
        one, two = docker_image(layer), image(SECOND)
        images = {"docker.io/library/a:1": one, "docker.io/library/a:2": one, "quay.io/b:1": two}
        path = await write_archive(tmp_path / "x.tar", "docker-archive", images)
        with tarfile.open(path) as archive:
            listing = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
            first = archive.extractfile(listing[0]["Layers"][0]).read()  # type: ignore[union-attr]

        assert [["a:1", "a:2"], ["quay.io/b:1"]] == [entry["RepoTags"] for entry in listing]
        assert layer == first
        assert [one.root, two.root] == [
            (await read_docker(path, name))[0] for name in ("docker.io/library/a:2", "quay.io/b:1")
        ]

    async def test_of_an_index_manifest_json_has_this_machines(self, tmp_path: Path) -> None:
        """The whole index goes along; programs that know no index get the image that fits."""
        arm = image(b"b", architecture="arm64")
        sample = index(amd64=image(b"a"), arm64=arm)
        path = tmp_path / "x.tar"
        wanted = Platform.parse("linux/arm64")
        async with open_writer(path, "docker-archive", spool=tmp_path, platform=wanted) as writer:
            await copy_image(MemorySource(sample), writer.sink())
        with tarfile.open(path) as archive:
            listing = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]

        assert arm.root.children[0].digest.hex in listing[0]["Config"]
        assert sample.root == (await read_docker(path))[0]

    async def test_an_index_that_is_not_whole(self, tmp_path: Path) -> None:
        """Where Docker kept one platform of an index, its manifest is the image."""
        arm = image(b"b", architecture="arm64")
        sample = index(amd64=image(b"a"), arm64=arm)
        path = tmp_path / "x.tar"
        wanted = [Platform.parse("linux/arm64"), Platform.parse("linux/amd64")]
        async with open_writer(
            path, "docker-archive", spool=tmp_path, platform=wanted[0]
        ) as writer:
            await copy_image(MemorySource(sample), writer.sink(), platforms=wanted)
        with tarfile.open(path) as archive:
            kept = {e.name: archive.extractfile(e).read() for e in archive}  # type: ignore[union-attr]
        gone = image(b"a").root.children[1].digest.hex
        path.write_bytes(files({n: raw for n, raw in kept.items() if gone not in n}))

        assert arm.root == (await read_docker(path))[0]

    async def test_artifacts_are_refused(self, tmp_path: Path) -> None:
        """What is no image has no place in manifest.json; nothing is written."""
        sample = image(b"layer")
        config = wire(sample.root.children[0]) | {"mediaType": "application/x.helm+json"}
        artifact = written({**json.loads(sample.root.raw), "config": config})
        source = MemorySource(Sample(artifact, {}, sample.blobs))
        with pytest.raises(UsageError, match="oci-archive takes it"):
            async with open_writer(tmp_path / "x", "docker-archive", spool=tmp_path) as writer:
                await copy_image(source, writer.sink())

        assert [] == list(tmp_path.iterdir())


def docker_image(layer: bytes) -> Sample:
    """A schema 2 image with one gzip layer."""
    plain = gzip.GzipFile(fileobj=io.BytesIO(layer)).read()
    config = Saved(layers=(plain,)).config
    contents = {Digest.of(raw): raw for raw in (config, layer)}
    kinds = (DOCKER_CONFIG, DOCKER_LAYER_GZIP)
    first, second = (
        {"mediaType": kind, "digest": str(digest), "size": len(raw)}
        for kind, (digest, raw) in zip(kinds, contents.items(), strict=True)
    )
    root = written(
        {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": first, "layers": [second]}
    )
    return Sample(root, {root.digest: root}, contents)
