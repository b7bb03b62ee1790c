"""What every blob store promises of what is on its way in: inherit ``ArrivalContract`` too.

The fixtures are those of ``tests.contract.blob_store``.
"""

import asyncio
from typing import Any

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch, IngestAborted, SizeMismatch, StoreUnusable
from cache.ingest import HELD_BACK
from tests.contract.blob_store import CONTENT, DIGEST, REPOSITORY, arrive, read
from tests.contract.store import AnyStore, Pread


class ArrivalContract:
    """The promises."""

    async def test_a_blob_arrives(self, store: AnyStore, pread: Pread[Any]) -> None:
        """Ranges in any order, followers meanwhile, a commit, and it is found."""
        ingest = await store.ingest(DIGEST)

        assert [ingest] == store.arriving()

        reader = asyncio.ensure_future(read(ingest, pread))
        ingest.announce(len(CONTENT))
        await ingest.write(1000, [CONTENT[1000:]])
        await ingest.write(0, [CONTENT[:500], CONTENT[500:1000]])

        assert store.find(DIGEST) is None
        assert DIGEST == await store.commit(ingest, repository=REPOSITORY)
        assert CONTENT == await reader
        assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))
        assert await store.is_member(REPOSITORY, DIGEST)
        assert [] == store.arriving()

    async def test_a_wrong_blob_is_never_given_out_whole(
        self, store: AnyStore, pread: Pread[Any]
    ) -> None:
        """Who reads along gets its last bytes only when all of it is proven, and else an error."""
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        async with ingest.follow() as follower:
            spans = aiter(follower)
            await ingest.write(0, [CONTENT[:-1], b"?" if CONTENT[-1:] != b"?" else b"!"])

            assert (0, len(CONTENT) - HELD_BACK) == await anext(spans)
            with pytest.raises(DigestMismatch):
                await store.commit(ingest)
            with pytest.raises(DigestMismatch):
                await anext(spans)
            assert CONTENT[:1000] == pread(follower.fd, 1000, 0)
        with pytest.raises(DigestMismatch):
            await ingest.write(0, [CONTENT])

    async def test_the_first_to_bring_a_byte_wins(self, store: AnyStore) -> None:
        """What is here is not written again: those who read along have it already."""
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        await ingest.write(100, [CONTENT[100:1000]])
        await ingest.write(50, [CONTENT[50:100], bytes(900), CONTENT[1000:2000]])
        await ingest.write(0, [CONTENT])
        await ingest.write(0, [bytes(2000)])

        assert ((0, len(CONTENT)),) == ingest.held.ranges
        assert DIGEST == await store.commit(ingest)

    async def test_an_upload_arrives(self, store: AnyStore) -> None:
        """Its digest is said at the end, and may be of any algorithm."""
        digest = Digest.of(CONTENT, "sha512")
        ingest = await store.upload()
        with pytest.raises(ValueError, match="cannot be committed"):
            await store.commit(ingest)
        await ingest.write(0, [CONTENT])

        assert digest == await store.commit(ingest, digest)
        assert CONTENT == await store.read(digest, limit=len(CONTENT))

    async def test_a_digest_arrives_once_at_a_time(self, store: AnyStore) -> None:
        """A second ingest of the same digest is refused while the first is under way."""
        first = await store.ingest(DIGEST)
        with pytest.raises(StoreUnusable, match="is arriving already"):
            await store.ingest(DIGEST)
        await store.abort(first, OSError("gone"))
        second = await store.ingest(DIGEST)
        await store.abort(second, OSError("gone"))

    async def test_an_old_end_does_not_disturb_a_new_arrival(self, store: AnyStore) -> None:
        """Giving up an ingest that has ended does not let the digest arrive twice."""
        first = await store.ingest(DIGEST, size=3)
        with pytest.raises(SizeMismatch):
            await store.commit(first)
        second = await store.ingest(DIGEST)
        await store.abort(first, OSError("late"))
        with pytest.raises(StoreUnusable, match="is arriving already"):
            await store.ingest(DIGEST)
        await store.abort(second, OSError("gone"))

    async def test_what_was_given_up_goes_on_where_it_stopped(
        self, store: AnyStore, pread: Pread[Any]
    ) -> None:
        """Kept bytes are held by the next ingest; discarded ones are not."""
        ingest = await store.ingest(DIGEST)
        await ingest.write(7, [CONTENT[7:1000]])
        await store.abort(ingest, OSError("later"))
        with pytest.raises(IngestAborted, match="later"):
            await read(ingest, pread)
        ingest = await store.ingest(DIGEST, size=len(CONTENT))

        assert ((7, 1000),) == ingest.held.ranges

        await store.abort(ingest, OSError("never"), discard=True)
        ingest = await store.ingest(DIGEST)

        assert () == ingest.held.ranges
        await store.abort(ingest, OSError("done"))

    async def test_bytes_that_contradict_the_size_are_not_resumed(self, store: AnyStore) -> None:
        """More was kept than the blob can have: the try fails, and the next begins anew."""
        ingest = await store.ingest(DIGEST)
        await ingest.write(0, [CONTENT, b"too long"])
        await store.abort(ingest, OSError("later"))
        with pytest.raises(SizeMismatch):
            await store.ingest(DIGEST, size=len(CONTENT))

        assert [] == store.arriving()
        assert DIGEST == await arrive(store, CONTENT)

    async def test_readers_follow_at_their_own_pace(
        self, store: AnyStore, pread: Pread[Any]
    ) -> None:
        """Of the whole, of its middle and of its end, from before the first byte and from after."""
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        spans = [(0, None), (10, 2000), (len(CONTENT) - 5, None)]
        readers = [asyncio.ensure_future(read(ingest, pread, *span)) for span in spans]
        await ingest.write(0, [CONTENT[:3000]])
        middle = await read(ingest, pread, 500, 1500)
        await ingest.write(3000, [CONTENT[3000:]])
        await store.commit(ingest)
        late = await read(ingest, pread, 7)

        assert [CONTENT[start:stop] for start, stop in spans] == await asyncio.gather(*readers)
        assert (CONTENT[500:1500], CONTENT[7:]) == (middle, late)

    async def test_an_upload_that_was_given_up_leaves_nothing(
        self, store: AnyStore, pread: Pread[Any]
    ) -> None:
        """Who follows is told why; the next one of the same bytes begins at their first."""
        ingest = await store.upload()
        await ingest.write(0, [CONTENT])
        await store.abort(ingest, OSError("cut"), discard=True)
        with pytest.raises(IngestAborted, match="cut"):
            await read(ingest, pread)

        assert ([], None, 0) == (store.arriving(), store.find(DIGEST), store.size)
        assert DIGEST == await arrive(store, CONTENT)
