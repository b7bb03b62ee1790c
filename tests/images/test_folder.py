"""dir: folders: the contract suites, and what is their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cache.content import Descriptor
from cache.errors import DigestMismatch
from registryd.images.errors import NotAnImage
from registryd.images.folder import FolderSink, FolderSource, manifest_path
from registryd.oci.errors import ManifestInvalid
from registryd.oci.media_types import OCI_LAYER
from registryd.ports import Sink, Source
from tests.contract.sink import SinkContract, opener
from tests.contract.source import SourceContract
from tests.fakes.endpoints import Sample, image, index


async def write(place: Path, sample: Sample) -> None:
    """Put a whole sample into a folder."""
    sink = FolderSink(place)
    for layer in sample.layers:
        await sink.put_blob(layer, opener(sample.blobs[layer.digest]))
    for digest, document in sample.documents.items():
        if digest != sample.root.digest:
            await sink.put_manifest(document, root=False)
    await sink.put_manifest(sample.root, root=True)


class TestFolderSinkContract(SinkContract):
    """A FolderSink is a Sink."""

    @pytest.fixture
    def sink(self, place: Path) -> Sink:
        return FolderSink(place)

    def reader(self, sink: Sink, place: Path) -> Source:
        return FolderSource(place)

    def leftovers(self, sink: Sink, place: Path) -> list[str]:
        return [path.name for path in place.iterdir() if path.name != "version"]


class TestFolderSourceContract(SourceContract):
    """A FolderSource is a Source."""

    @pytest.fixture
    async def source(self, sample: Sample, tmp_path: Path) -> Source:
        await write(tmp_path / "folder", sample)
        return FolderSource(tmp_path / "folder")


async def test_the_files_have_the_names_of_the_form(tmp_path: Path) -> None:
    """Version, root, and bare hex names; manifests that an index lists end in .manifest.json."""
    sample = index(amd64=image(b"a"))
    await write(tmp_path, sample)
    child = sample.root.children[0].digest.hex
    blobs = [digest.hex for digest in sample.blobs]

    assert sorted(["version", "manifest.json", f"{child}.manifest.json", *blobs]) == (
        sorted(os.listdir(tmp_path))
    )
    assert "Directory Transport Version: 1.1\n" == (tmp_path / "version").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file manifest.json"),
        ({"version": "Directory Transport Version: 2.0\n"}, "version does not say"),
        ({"version": "garbage"}, "version does not say"),
        ({"manifest.json": "garbage"}, "not JSON"),
        ({"manifest.json": " " * (5 << 20)}, "bytes, .* are allowed"),
    ],
)
async def test_a_foreign_folder(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """A folder that is not of this form gives one line that says so."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises((NotAnImage, ManifestInvalid), match=message) as caught:
        await FolderSource(tmp_path).root()

    assert "\n" not in str(caught.value)


async def test_a_child_with_other_bytes(tmp_path: Path) -> None:
    """A child manifest of the right size with other bytes is refused."""
    sample = index(amd64=image(b"a"), arm64=image(b"b", architecture="arm64"))
    await write(tmp_path, sample)
    first, second = sample.root.children
    other = sample.documents[second.digest].raw.ljust(first.size)[: first.size]
    manifest_path(tmp_path, first.digest).write_bytes(other)
    with pytest.raises(DigestMismatch):
        await FolderSource(tmp_path).manifest(first)


async def test_a_missing_folder(tmp_path: Path) -> None:
    """A path that is not there is no image."""
    with pytest.raises(NotAnImage, match="is not a folder"):
        await FolderSource(tmp_path / "missing").root()


async def test_nothing_is_written_into_a_foreign_folder(tmp_path: Path) -> None:
    """A folder with other things in it is left alone."""
    (tmp_path / "thesis.tex").write_text("precious")
    sink, layer = FolderSink(tmp_path), Descriptor.of(OCI_LAYER, b"x")
    with pytest.raises(NotAnImage, match="choose a new folder"):
        await sink.has_blob(layer)
    with pytest.raises(NotAnImage, match="choose a new folder"):
        await sink.put_blob(layer, opener(b"x"))
    with pytest.raises(NotAnImage, match="choose a new folder"):
        await sink.put_manifest(image().root, root=True)

    assert ["thesis.tex"] == os.listdir(tmp_path)


@pytest.mark.parametrize("version", [None, "Directory Transport Version: 1.0\n"])
async def test_older_folders_and_signatures(tmp_path: Path, version: str | None) -> None:
    """Version 1.0, said or not, is read; signatures beside an image are nobody's to touch."""
    sample = image(b"layer")
    await write(tmp_path, sample)
    (tmp_path / "signature-1").write_bytes(b"signed")
    (tmp_path / "version").unlink()
    if version is not None:
        (tmp_path / "version").write_text(version)
    root = await FolderSource(tmp_path).root()
    if version is not None:
        await write(tmp_path, sample)

    assert sample.root == root
    assert b"signed" == (tmp_path / "signature-1").read_bytes()
