"""OCI layouts: the contract suites, and what is a layout's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, SizeMismatch
from registryd.images.errors import NotAnImage, PathUnusable
from registryd.images.layout import (
    REF_NAME,
    LayoutSink,
    LayoutSource,
    blob_path,
    choose,
    enter,
    read_index,
)
from registryd.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown, UsageError
from registryd.oci.media_types import OCI_LAYER, OCI_MANIFEST
from registryd.ports import Sink, Source
from tests.contract.sink import SinkContract, opener
from tests.contract.source import SourceContract
from tests.fakes.endpoints import MemorySource, Sample, image, index, wire, written


async def write(place: Path, sample: Sample, tag: str = "") -> None:
    """Put a whole sample into a layout."""
    sink = LayoutSink(place, tag)
    for layer in sample.layers:
        await sink.put_blob(layer, opener(sample.blobs[layer.digest]))
    for document in sample.documents.values():
        await sink.put_manifest(document, root=False)
    await sink.put_manifest(sample.root, root=True)


def entries(place: Path) -> list[tuple[str, str]]:
    """Tag and digest of every entry of index.json."""
    listing = json.loads((place / "index.json").read_text())
    return [
        (entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""), entry["digest"])
        for entry in listing["manifests"]
    ]


class TestLayoutSinkContract(SinkContract):
    """A LayoutSink is a Sink."""

    @pytest.fixture
    def sink(self, place: Path) -> Sink:
        return LayoutSink(place, "tag")

    def reader(self, sink: Sink, place: Path) -> Source:
        return LayoutSource(place, "tag")

    def leftovers(self, sink: Sink, place: Path) -> list[str]:
        return [str(path) for path in place.glob("blobs/*/*")]


class TestLayoutSourceContract(SourceContract):
    """A LayoutSource is a Source."""

    @pytest.fixture
    async def source(self, sample: Sample, tmp_path: Path) -> Source:
        await write(tmp_path / "layout", sample)
        return LayoutSource(tmp_path / "layout")


class TestTags:
    """Which image of a layout a location means."""

    @pytest.fixture
    async def layout(self, tmp_path: Path) -> Path:
        """A layout with the tags a and b."""
        await write(tmp_path, image(b"a"), "a")
        await write(tmp_path, image(b"b"), "b")
        return tmp_path

    async def test_tags_live_side_by_side(self, layout: Path) -> None:
        """A second tag leaves the first as it is."""
        roots = [await LayoutSource(layout, tag).root() for tag in ("a", "b")]

        assert [image(b"a").root, image(b"b").root] == roots

    async def test_the_same_tag_is_replaced(self, layout: Path) -> None:
        """A tag that is written again stands once, for the new image."""
        await write(layout, image(b"new"), "a")

        assert [("b", str(image(b"b").root.digest)), ("a", str(image(b"new").root.digest))] == (
            entries(layout)
        )

    async def test_an_untagged_image_is_entered_once(self, layout: Path) -> None:
        """Without a tag the digest is what is replaced, and tagged entries are not."""
        for content in (b"a", b"a", b"c"):
            await write(layout, image(content))
        digests = [str(image(content).root.digest) for content in (b"a", b"b", b"a", b"c")]

        assert list(zip(["a", "b", "", ""], digests, strict=True)) == entries(layout)

    async def test_what_others_wrote_is_kept(self, layout: Path) -> None:
        """Members and annotations that we do not know outlive a merge."""
        listing = json.loads((layout / "index.json").read_text())
        listing["annotations"] = {"who": "someone"}
        listing["manifests"][0]["annotations"]["more"] = "kept"
        strange = {"mediaType": "x/y", "digest": "blake3:00", "size": 1}
        listing["manifests"].append(strange)
        (layout / "index.json").write_text(json.dumps(listing))
        await write(layout, image(b"c"), "c")
        merged = json.loads((layout / "index.json").read_text())

        assert listing["manifests"] == merged.pop("manifests")[:3]
        assert merged["annotations"] == {"who": "someone"}
        assert image(b"b").root == await LayoutSource(layout, "b").root()

    async def test_without_a_tag_the_choice_is_listed(self, layout: Path) -> None:
        """Several images and no tag: the error names the tags."""
        with pytest.raises(ManifestUnknown, match=r"holds 2 images; .*:TAG \(tags: a, b\)"):
            await LayoutSource(layout).root()

    async def test_an_image_without_a_tag_is_passed_over_for_none_with_one(
        self, tmp_path: Path
    ) -> None:
        """What was written as oci:DIR is not another image when it is read as oci:DIR."""
        await write(tmp_path, image(b"a"))
        await write(tmp_path, image(b"b"), "b")

        with pytest.raises(ManifestUnknown, match=r"holds 2 images; .*:TAG \(tags: b\)"):
            await LayoutSource(tmp_path).root()

    async def test_what_is_attached_is_no_choice(self, tmp_path: Path) -> None:
        """It lies beside its image, also where only its configuration says its type."""
        sample = image(b"a")
        subject = wire(sample.root.descriptor)
        attached = written({**json.loads(sample.root.raw), "subject": subject})
        await write(tmp_path, sample, "a")
        await LayoutSink(tmp_path).put_manifest(attached, root=True)

        assert sample.root == await LayoutSource(tmp_path).root()

    async def test_a_missing_tag_is_told_with_those_there_are(self, layout: Path) -> None:
        """An unknown tag: the error names the tags."""
        with pytest.raises(ManifestUnknown, match=r"no image with the tag 'x' \(tags: a, b\)"):
            await LayoutSource(layout, "x").root()

    async def test_several_names_of_one_image_need_no_tag(self, tmp_path: Path) -> None:
        """Entries that all point to one image are no choice."""
        for tag in ("a", "b"):
            await write(tmp_path, image(b"a"), tag)

        assert image(b"a").root == await LayoutSource(tmp_path).root()

    async def test_one_tag_for_two_images_is_refused(self, layout: Path) -> None:
        """A tag that means two images is told, not guessed."""
        text = (layout / "index.json").read_text()
        (layout / "index.json").write_text(text.replace('name":"b"', 'name":"a"'))
        with pytest.raises(ManifestUnknown, match="several images with the tag 'a'"):
            await LayoutSource(layout, "a").root()

    async def test_the_full_name_of_docker_save_is_found(self, layout: Path) -> None:
        """A layout that docker or containerd wrote is found by the image's full name as well."""
        text = (layout / "index.json").read_text()
        named = '"io.containerd.image.name":"docker.io/library/a:a","org.open'
        (layout / "index.json").write_text(text.replace('"org.open', named, 1))
        root = await LayoutSource(layout, "docker.io/library/a:a").root()

        assert image(b"a").root == root

    async def test_an_artifact_shows_its_type(self, tmp_path: Path) -> None:
        """The entry of an artifact carries its artifactType (image specification, "Index")."""
        members = json.loads(image(b"a").root.raw) | {"artifactType": "application/x-thing"}
        await LayoutSink(tmp_path).put_manifest(written(members), root=True)
        listing = json.loads((tmp_path / "index.json").read_text())

        assert ["application/x-thing"] == [e["artifactType"] for e in listing["manifests"]]


class TestRefusals:
    """What is no layout, or must not be written to, is told in one line."""

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "has no file oci-layout"),
            ({"oci-layout": "garbage"}, "oci-layout is not usable: it is not JSON"),
            ({"oci-layout": '{"imageLayoutVersion":"2.0"}'}, "version '2.0'"),
            ({"oci-layout": '{"imageLayoutVersion":"1.0.0"}'}, "has no index.json"),
            ({"index.json": "[]"}, "index.json is not usable: it is not a JSON object"),
            ({"index.json": '{"manifests":7}'}, "manifests must be a list"),
            ({"index.json": '{"manifests":[7]}'}, r"manifests\[0\] must be an object"),
            ({"index.json": '{"manifests":[{"mediaType":"a/b","digest":"x"}]}'}, "not a digest"),
            ({"index.json": '{"manifests":[]}'}, "holds no image"),
            ({"index.json": "[" * 100_000}, "nested too deeply"),
        ],
    )
    async def test_a_foreign_folder(
        self, tmp_path: Path, files: dict[str, str], message: str
    ) -> None:
        """A folder that is no layout, or a broken one, gives one line that says so."""
        if "index.json" in files:
            (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        with pytest.raises((NotAnImage, ManifestUnknown), match=message) as caught:
            await LayoutSource(tmp_path).root()

        assert "\n" not in str(caught.value)

    async def test_a_missing_folder(self, tmp_path: Path) -> None:
        """A path that is not there, or is a file, is not a layout."""
        (tmp_path / "file").write_text("")
        for name in ("missing", "file"):
            with pytest.raises(NotAnImage, match="is not a folder"):
                await LayoutSource(tmp_path / name).root()

    async def test_nothing_is_written_into_a_foreign_folder(self, tmp_path: Path) -> None:
        """A folder with other things in it is left alone."""
        (tmp_path / "thesis.tex").write_text("precious")
        sink, layer = LayoutSink(tmp_path), Descriptor.of(OCI_LAYER, b"x")
        with pytest.raises(NotAnImage, match="no file oci-layout"):
            await sink.has_blob(layer)
        with pytest.raises(NotAnImage, match="no file oci-layout"):
            await sink.put_blob(layer, opener(b"x"))
        with pytest.raises(NotAnImage, match="no file oci-layout"):
            await sink.put_manifest(image().root, root=True)

        assert ["thesis.tex"] == os.listdir(tmp_path)

    async def test_a_broken_index_is_not_overwritten(self, tmp_path: Path) -> None:
        """An index.json that cannot be merged with stays as it is."""
        await write(tmp_path, image(b"a"), "a")
        (tmp_path / "index.json").write_text("{broken")
        with pytest.raises(NotAnImage, match="not JSON"):
            await write(tmp_path, image(b"b"), "b")

        assert "{broken" == (tmp_path / "index.json").read_text()

    async def test_a_cache_root_is_read_but_not_written(self, tmp_path: Path) -> None:
        """A cache root is a layout to read; its one writer is the daemon."""
        await write(tmp_path, image(b"a"), "a")
        (tmp_path / "cache.db").write_bytes(b"")
        with pytest.raises(UsageError, match="use cache:NAME"):
            await LayoutSink(tmp_path).has_blob(Descriptor.of(OCI_LAYER, b"x"))

        assert image(b"a").root == await LayoutSource(tmp_path).root()

    async def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        """A destination below a file cannot be written, and says why."""
        (tmp_path / "file").write_text("")
        with pytest.raises(PathUnusable, match="not a directory"):
            await write(tmp_path / "file", image(b"a"))


class TestContent:
    """Content that is not what index.json and manifests say."""

    @pytest.fixture
    async def layout(self, tmp_path: Path) -> Path:
        """A layout with one image."""
        await write(tmp_path, image(b"layer"))
        return tmp_path

    async def test_a_manifest_of_the_wrong_size(self, layout: Path) -> None:
        """A manifest file that grew is refused."""
        blob_path(layout, image(b"layer").root.digest).write_bytes(b"{}")
        with pytest.raises(SizeMismatch):
            await LayoutSource(layout).root()

    async def test_a_manifest_with_other_bytes(self, layout: Path) -> None:
        """A manifest of the right size with other bytes is refused."""
        root = image(b"layer").root
        blob_path(layout, root.digest).write_bytes(b" " * len(root.raw))
        with pytest.raises(DigestMismatch):
            await LayoutSource(layout).root()

    async def test_a_manifest_too_large_to_be_one(self, layout: Path) -> None:
        """A descriptor that announces a huge manifest is refused before it is read."""
        huge = Descriptor(OCI_MANIFEST, Digest.of(b"huge"), 1 << 40)
        with pytest.raises(ManifestInvalid, match="are allowed"):
            await LayoutSource(layout).manifest(huge)

    async def test_a_blob_of_the_wrong_size(self, layout: Path) -> None:
        """A blob file of another size is refused before a byte of it is given out."""
        layer = Descriptor.of(OCI_LAYER, b"layer")
        blob_path(layout, layer.digest).write_bytes(b"lay")
        with pytest.raises(SizeMismatch, match="3 bytes where 5"):
            async with LayoutSource(layout).blob(layer):
                pass

        assert not await LayoutSink(layout).has_blob(layer)

    async def test_a_blob_that_shrinks_while_it_is_read(self, layout: Path) -> None:
        """A blob that is cut under a reader ends in an error, not in silence."""
        layer = Descriptor.of(OCI_LAYER, b"layer")
        async with LayoutSource(layout).blob(layer) as body:
            os.truncate(blob_path(layout, layer.digest), 0)
            with pytest.raises(SizeMismatch, match="shrank"):
                await anext(aiter(body))

    async def test_a_pipe_under_a_blobs_name(self, layout: Path) -> None:
        """What is no regular file is refused, and does not block."""
        layer = Descriptor.of(OCI_LAYER, b"layer")
        path = blob_path(layout, layer.digest)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(NotAnImage, match="not a regular file"):
            async with LayoutSource(layout).blob(layer):
                pass

        assert not await LayoutSink(layout).has_blob(layer)

    async def test_a_blob_removed_after_the_index_was_read(self, layout: Path) -> None:
        """A live cache root may drop a blob between the index and the read."""
        layer = Descriptor.of(OCI_LAYER, b"layer")
        source = LayoutSource(layout)
        await source.root()
        blob_path(layout, layer.digest).unlink()
        with pytest.raises(BlobUnknown, match="not complete"):
            async with source.blob(layer):
                pass

    async def test_files_have_the_users_own_mode(self, layout: Path) -> None:
        """Files follow the umask, so that others may read an exported image."""
        old = os.umask(0o022)
        os.umask(old)
        modes = {stat.S_IMODE(p.stat().st_mode) for p in layout.rglob("*") if p.is_file()}

        assert {0o666 & ~old} == modes

    async def test_two_sinks_at_once_lose_no_tag(self, tmp_path: Path) -> None:
        """Writers that finish together keep each other's entries, in a folder new to both."""

        place = tmp_path / "new"
        tags = [f"t{number}" for number in range(12)]
        async with asyncio.TaskGroup() as group:
            for tag in tags:
                group.create_task(write(place, image(tag.encode()), tag))

        assert sorted(tags) == sorted(tag for tag, _ in entries(place))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": JSON | st.just(OCI_MANIFEST),
        "digest": JSON | st.just(str(Digest.of(b"x"))),
        "size": JSON,
        "annotations": JSON | st.dictionaries(st.just(REF_NAME), JSON),
    },
)


@given(listing=JSON | st.fixed_dictionaries({"manifests": JSON | st.lists(ENTRY | JSON)}))
def test_any_index_is_a_listing_or_one_line(listing: object) -> None:
    """Whatever index.json holds: a descriptor and a merged index, or an error of ours."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "index.json").write_text(json.dumps(listing))
        with contextlib.suppress(NotAnImage, ManifestUnknown):
            read = read_index(root)
            assert read is not None
            merged = enter(read, image(b"new").root, "new")
            assert choose(merged, root, "new") == image(b"new").root.descriptor
            choose(read, root, "")


async def test_a_sample_is_what_its_source_gives() -> None:
    """The in-memory source and a layout give the same index."""
    sample = index(amd64=image(b"a"))

    assert sample.root == await MemorySource(sample).root()
