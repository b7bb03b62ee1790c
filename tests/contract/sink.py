"""The rules of every ports.Sink; subclass SinkContract beside an implementer's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.content import Descriptor
from cache.errors import DigestMismatch, SizeMismatch
from registryd.oci.media_types import OCI_LAYER
from registryd.ports import Body, BodyOpener, Sink, Source, TransportError
from tests.fakes.endpoints import MemoryBody, image, index

CONTENT = bytes(range(256)) * 5000  # a little more than one hop of 1 MiB


def opener(content: bytes) -> BodyOpener:
    """Opens a body of these bytes."""

    @asynccontextmanager
    async def open_body() -> AsyncIterator[Body]:
        yield MemoryBody(content)

    return open_body


class BreakingBody(MemoryBody):
    """A body that gives some bytes and then does what the test wants."""

    def __init__(self, content: bytes, then: asyncio.Event | Exception) -> None:
        super().__init__(content)
        self.then = then
        self.reached = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        self.reached.set()
        if isinstance(self.then, Exception):
            raise self.then
        await self.then.wait()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Body]:
        """This body."""
        yield self


class SinkContract:
    """What a copy may rely on in every sink."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """Where the sink of one test writes, if it writes files."""
        return tmp_path / "place"

    @pytest.fixture
    def sink(self, place: Path) -> Sink:
        """The sink under test."""
        raise NotImplementedError

    def reader(self, sink: Sink, place: Path) -> Source:
        """A source that reads back what the sink took."""
        raise NotImplementedError

    def leftovers(self, sink: Sink, place: Path) -> list[str]:
        """Names of blobs, whole or partial, that are in the sink."""
        raise NotImplementedError

    @pytest.mark.parametrize("content", [b"", b"x", CONTENT])
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_takes_a_blob(
        self, sink: Sink, place: Path, content: bytes, algorithm: str
    ) -> None:
        """A blob that was put is there, with the bytes that were put."""
        sample = image(content, algorithm=algorithm)
        layer = Descriptor.of(OCI_LAYER, content, algorithm)
        before = await sink.has_blob(layer)
        await sink.put_blob(layer, opener(content))
        await sink.put_manifest(sample.root, root=True)
        async with self.reader(sink, place).blob(layer) as body:
            read = b"".join([piece async for piece in body])

        assert (False, True) == (before, await sink.has_blob(layer))
        assert content == read

    async def test_putting_twice_is_a_success(self, sink: Sink) -> None:
        """Everything put twice is a success."""
        sample = image(b"one")
        layer = Descriptor.of(OCI_LAYER, b"one")
        for _ in range(2):
            await sink.put_blob(layer, opener(b"one"))
            await sink.put_manifest(sample.root, root=True)

        assert await sink.has_blob(layer)

    @pytest.mark.parametrize(
        ("sent", "error"),
        [
            (CONTENT[:-1], SizeMismatch),
            (CONTENT + b"x", SizeMismatch),
            (b"", SizeMismatch),
            (b"y" + CONTENT[1:], DigestMismatch),
        ],
        ids=["short", "long", "empty", "wrong"],
    )
    async def test_refuses_a_blob_that_is_not_what_was_announced(
        self, sink: Sink, place: Path, sent: bytes, error: type[Exception]
    ) -> None:
        """A body that is short, long or wrong leaves nothing, under its digest or beside it."""
        layer = Descriptor.of(OCI_LAYER, CONTENT)
        with pytest.raises(error):
            await sink.put_blob(layer, opener(sent))

        assert not await sink.has_blob(layer)
        assert [] == self.leftovers(sink, place)

    async def test_a_body_that_breaks_leaves_nothing(self, sink: Sink, place: Path) -> None:
        """The body's own error comes out, and no part of it stays."""
        layer = Descriptor.of(OCI_LAYER, CONTENT + b"never sent")
        body = BreakingBody(CONTENT, TransportError("it broke"))
        with pytest.raises(TransportError, match="it broke"):
            await sink.put_blob(layer, body.open)

        assert not await sink.has_blob(layer)
        assert [] == self.leftovers(sink, place)

    async def test_a_cancelled_put_leaves_nothing(self, sink: Sink, place: Path) -> None:
        """A put that is cancelled in the middle of its body leaves no part of it."""
        layer = Descriptor.of(OCI_LAYER, CONTENT + b"never sent")
        body = BreakingBody(CONTENT, asyncio.Event())
        task = asyncio.ensure_future(sink.put_blob(layer, body.open))
        await body.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert not await sink.has_blob(layer)
        assert [] == self.leftovers(sink, place)

    async def test_reads_back_an_index(self, sink: Sink, place: Path) -> None:
        """Children and root are read back byte for byte."""
        sample = index(amd64=image(b"a"), arm64=image(b"b", architecture="arm64"))
        for layer in sample.layers:
            await sink.put_blob(layer, opener(sample.blobs[layer.digest]))
        for child in sample.root.children:
            await sink.put_manifest(sample.documents[child.digest], root=False)
        await sink.put_manifest(sample.root, root=True)
        reader = self.reader(sink, place)
        children = [await reader.manifest(child) for child in sample.root.children]

        assert sample.root == await reader.root()
        assert [sample.documents[child.digest] for child in sample.root.children] == children

    async def test_the_root_is_replaced(self, sink: Sink, place: Path) -> None:
        """A second image under the same name takes the place of the first."""
        for content in (b"first", b"second"):
            await sink.put_blob(Descriptor.of(OCI_LAYER, content), opener(content))
            await sink.put_manifest(image(content).root, root=True)

        assert image(b"second").root == await self.reader(sink, place).root()
