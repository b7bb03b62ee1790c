"""Writes an ingest as it is told on stdin, until somebody kills it.

Arguments: root, size, seed. A line ``write START STOP`` writes that range of the sample;
``publish`` makes a complete blob of the sample beside the index, and says so; each is answered
by a line when it has been done.
"""

import asyncio
import os
import sys
from pathlib import Path

from cache.content import Digest
from cache.layout import blob_path
from cache.store import BlobStore
from tests.cache.samples import noise


async def main(root: Path, content: bytes) -> None:
    """Hold the store open and obey."""
    digest = Digest.of(content)
    async with BlobStore.open(root) as store:
        ingest = await store.ingest(digest, size=len(content))
        answer("ready")
        while line := (await asyncio.to_thread(sys.stdin.readline)).split():
            if line[0] == "write":
                start, stop = map(int, line[1:])
                await ingest.write(start, [content[start:stop]])
            else:
                await asyncio.to_thread(publish, store, root, content)
            answer("done")


def publish(store: BlobStore, root: Path, content: bytes) -> None:
    """What a commit does up to the rename, and no further."""
    source = root / "ingest" / "killed.data"
    fd = os.open(source, os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    store._files.publish(fd, source, Digest.of(content))
    assert blob_path(root, Digest.of(content)).exists()


def answer(word: str) -> None:
    """One line, at once."""
    os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), noise(int(sys.argv[2]), int(sys.argv[3]))))
