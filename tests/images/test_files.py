"""Blobs as files: what a cancellation and a full disk leave behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from typing_extensions import override

from cache.content import Descriptor
from cache.errors import DiskFull, SizeMismatch
from registryd.images.errors import path_faults
from registryd.images.files import PARTIAL, in_thread, is_vacant, open_blob, write_blob
from registryd.oci.media_types import OCI_LAYER
from registryd.ports import Body
from tests.contract.sink import CONTENT, opener
from tests.fakes.endpoints import MemoryBody

LAYER = Descriptor.of(OCI_LAYER, CONTENT)


class Cancelling(ThreadPoolExecutor):
    """Cancels the task under test while the thread of its hop number ``at`` is at work."""

    def __init__(self, at: int) -> None:
        super().__init__(1)
        self.left = at
        self.task: asyncio.Future[None] | None = None

    @override
    def submit(
        self, fn: Callable[..., object], /, *args: object, **kwargs: object
    ) -> Future[object]:  # type: ignore[override]
        self.left -= 1
        if self.left >= 0 or self.task is None:
            return super().submit(fn, *args, **kwargs)
        task, self.task = self.task, None
        begun = threading.Event()
        loop = asyncio.get_running_loop()
        loop.call_soon(task.cancel)
        loop.call_soon(begun.set)

        def late() -> object:
            begun.wait()
            return fn(*args, **kwargs)

        return super().submit(late)


async def cancelled_at(hop: int, work: Callable[[], Awaitable[None]]) -> bool:
    """Run the work and cancel it in one of its hops; whether it had so many."""
    executor = Cancelling(hop)
    asyncio.get_running_loop().set_default_executor(executor)
    task = asyncio.ensure_future(work())
    executor.task = task
    try:
        await task
    except asyncio.CancelledError:
        return True
    finally:
        executor.shutdown()
    return False


@pytest.mark.parametrize("hop", range(5))
async def test_a_write_cancelled_in_any_hop(tmp_path: Path, hop: int) -> None:
    """A write that is cancelled while a thread works leaves no part and no open file."""
    before = set(os.listdir("/proc/self/fd"))
    path = tmp_path / "blob"
    cancelled = await cancelled_at(hop, lambda: write_blob(path, LAYER, opener(CONTENT)))
    whole = ["blob"] if path.exists() and path.read_bytes() == CONTENT else []

    assert cancelled
    assert whole == os.listdir(tmp_path)
    assert (hop < 3) == (whole == [])
    assert before == set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("hop", range(4))
async def test_a_read_cancelled_in_any_hop(tmp_path: Path, hop: int) -> None:
    """A read that is cancelled while a thread opens, reads or closes leaves no open file."""
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    before = set(os.listdir("/proc/self/fd"))

    async def read() -> None:
        async with open_blob(path, LAYER) as body:
            async for _ in body:
                pass

    assert await cancelled_at(hop, read)
    assert before == set(os.listdir("/proc/self/fd"))


async def test_a_cancelled_call_waits_for_its_thread() -> None:
    """However often it is cancelled, a call comes back only when its thread is done."""
    release, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait(30)

    task = asyncio.ensure_future(in_thread(work))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
    early = task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not early


def test_what_a_cancelled_call_met_is_not_printed() -> None:
    """A thread that fails after its call was cancelled says nothing behind the caller's back."""
    printed: list[str] = []
    release = threading.Event()

    async def cancelled() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, told: printed.append(str(told["message"])))

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            release.wait(30)
            raise OSError("no")

        task = asyncio.ensure_future(in_thread(work))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
        release.set()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    gc.collect()

    assert [] == printed


async def test_small_pieces_are_gathered(tmp_path: Path) -> None:
    """Pieces of 64 KiB do not cost a hop each."""

    class Counting(ThreadPoolExecutor):
        hops = 0

        @override
        def submit(self, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
            self.hops += 1
            return super().submit(*args, **kwargs)  # type: ignore[arg-type]

    executor = Counting(1)
    asyncio.get_running_loop().set_default_executor(executor)
    await write_blob(tmp_path / "blob", LAYER, opener(CONTENT))

    assert executor.hops == 5  # open, two writes, commit, close


async def test_a_late_body_is_refused(tmp_path: Path) -> None:
    """A body that begins after its first byte cannot be the whole."""

    @asynccontextmanager
    async def late() -> AsyncIterator[Body]:
        yield MemoryBody(CONTENT, start=3)

    with pytest.raises(SizeMismatch, match="begins at byte 3"):
        await write_blob(tmp_path / "blob", LAYER, late)


async def test_a_body_without_end_is_cut_short(tmp_path: Path) -> None:
    """A body that is longer than announced is refused at the first piece too many."""
    given: list[int] = []

    class Endless(MemoryBody):
        @override
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for number in range(1000):
                given.append(number)
                yield bytes(64 << 10)

    @asynccontextmanager
    async def endless() -> AsyncIterator[Body]:
        yield Endless(b"")

    with pytest.raises(SizeMismatch, match="at least"):
        await write_blob(tmp_path / "blob", LAYER, endless)

    assert len(given) == len(CONTENT) // (64 << 10) + 1
    assert [] == os.listdir(tmp_path)


def test_a_full_disk_has_its_own_error() -> None:
    """No space left is DiskFull, with the path and what to do."""
    with (
        pytest.raises(DiskFull, match=r"/dev/full: no space left on device; free some"),
        path_faults(Path("/dev/full")),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_what_is_being_written_is_no_content(tmp_path: Path) -> None:
    """A folder is vacant while it has nothing but files that are being written."""
    claims = [is_vacant(tmp_path / "missing"), is_vacant(tmp_path)]
    (tmp_path / f"{PARTIAL}x").write_text("")
    claims.append(is_vacant(tmp_path))
    (tmp_path / "file").write_text("")
    claims.append(is_vacant(tmp_path))

    assert [True, True, True, False] == claims
