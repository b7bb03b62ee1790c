"""The rules of every ports.Source; subclass SourceContract beside an implementer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.content import Descriptor
from registryd.oci.errors import BlobUnknown
from registryd.oci.media_types import OCI_LAYER, OCI_MANIFEST
from registryd.ports import Skipping, Source
from tests.fakes.endpoints import Sample, image, index

LARGE = bytes(range(256)) * 10_000
MIB = 1 << 20

SAMPLES = {
    "image": image(b"", b"x", LARGE),
    "index": index(amd64=image(b"a"), arm64=image(b"b", architecture="arm64")),
    "sha512": image(b"x", LARGE, algorithm="sha512"),
}


class SourceContract:
    """What a copy may rely on in every source."""

    @pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
    def sample(self, request: pytest.FixtureRequest) -> Sample:
        """The image that the source holds."""
        sample: Sample = request.param
        return sample

    @pytest.fixture
    def source(self, sample: Sample, tmp_path: Path) -> Source:
        """The source under test, with the sample in it."""
        raise NotImplementedError

    async def test_gives_the_root(self, source: Source, sample: Sample) -> None:
        """The root comes with the bytes and the digest that it was made with."""
        root = await source.root()

        assert (sample.root.raw, sample.root.descriptor) == (root.raw, root.descriptor)

    async def test_gives_every_child(self, source: Source, sample: Sample) -> None:
        """Each child manifest comes with its own bytes."""
        children = [c for c in sample.root.children if c.digest in sample.documents]
        read = [(await source.manifest(child)).raw for child in children]

        assert [sample.documents[child.digest].raw for child in children] == read

    async def test_gives_blobs_whole(self, source: Source, sample: Sample) -> None:
        """A body begins at 0, says its size and who sends, and comes in pieces up to 1 MiB."""
        for layer in sample.layers:
            async with source.blob(layer) as body:
                facts = (body.start, body.total, bool(body.source))
                pieces = [piece async for piece in body]

            assert (0, layer.size, True) == facts
            assert sample.blobs[layer.digest] == b"".join(pieces)
            assert all(0 < len(piece) <= MIB for piece in pieces)

    async def test_may_be_left_early(self, source: Source, sample: Sample) -> None:
        """A reader that stops in the middle, or never begins, leaves nothing open."""
        largest = max(sample.layers, key=lambda layer: layer.size)
        async with source.blob(largest):
            pass
        async with source.blob(largest) as body:
            first = await anext(aiter(body))

        assert sample.blobs[largest.digest].startswith(first)

    async def test_may_begin_further_on(self, source: Source, sample: Sample) -> None:
        """A body that can skip gives the rest from any byte, also the end."""
        for layer in sample.layers:
            for start in {layer.size // 2, layer.size}:
                async with source.blob(layer) as body:
                    skips = isinstance(body, Skipping) and await body.skip_to(start)
                    rest = b"".join([piece async for piece in body])

                assert sample.blobs[layer.digest][start if skips else 0 :] == rest

    async def test_says_what_is_missing(self, source: Source) -> None:
        """Content that the source does not have is BlobUnknown, a manifest as well as a blob."""
        with pytest.raises(BlobUnknown):
            async with source.blob(Descriptor.of(OCI_LAYER, b"nobody has this")):
                pass
        with pytest.raises(BlobUnknown):
            await source.manifest(Descriptor.of(OCI_MANIFEST, b"nobody has this"))
