"""Pushes that end in the middle, and the next process that goes on with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from registryd.config import TransferConfig
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.remote.upload_journal import JOURNALED_FROM, LIFETIME, Kept, UploadJournal
from registryd.remote.upload_rules import CHUNK, MIB
from registryd.secrets import Secret
from tests.fakes.bodies import Opener
from tests.fakes.breaking import Quirks, UploadRegistry
from tests.fakes.clock import FakeClock
from tests.fakes.http import Reply
from tests.remote.conftest import Connect

CONTENT = bytes(range(256)) * 4096 * 20
BLOB = Descriptor.of("application/octet-stream", CONTENT)
REPOSITORY = "team/app"


@pytest.fixture
async def registry() -> AsyncIterator[UploadRegistry]:
    async with UploadRegistry().serve() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "root/uploads"


@pytest.fixture
def process(
    registry: UploadRegistry, connect: Connect, folder: Path, clock: FakeClock
) -> Callable[[], object]:
    """A client of its own, as each process has one; it does not try twice."""

    async def start() -> RegistryClient:
        journal = UploadJournal(folder, lambda: clock.now)
        return await connect(registry, transfer=TransferConfig(attempts=1), journal=journal)

    return start


async def push(client: RegistryClient, blob: Descriptor = BLOB, content: bytes = CONTENT) -> None:
    await client.push_blob(Reference(client.registry, REPOSITORY), blob, Opener(content))


async def cut_off(registry: UploadRegistry, client: RegistryClient, at: int) -> None:
    """A push that ends when the registry has so many bytes."""
    registry.break_at = registry.received + at
    with pytest.raises(TransportError):
        await push(client)


def methods(registry: UploadRegistry) -> list[str]:
    return [seen.method for seen in registry.requests]


async def test_the_next_process_goes_on(
    registry: UploadRegistry, process: Callable, folder: Path
) -> None:
    """Where a registry keeps what came, the rest is sent; then nothing is left on disk."""
    await cut_off(registry, await process(), 12 * MIB)
    await push(await process())

    assert ["POST", "PUT", "GET", "PATCH", "PUT"] == methods(registry)
    assert (CONTENT, len(CONTENT)) == (registry.blob(REPOSITORY, BLOB.digest), registry.received)
    assert [] == list(folder.iterdir())


async def test_process_that_was_cut_off_in_chunks(
    registry: UploadRegistry, process: Callable
) -> None:
    """A registry that forgets what it had not answered has the chunks before; the state is new."""
    registry.quirks = Quirks(keeps=False, whole_most=MIB)
    await cut_off(registry, await process(), len(CONTENT) + CHUNK + MIB)
    await push(await process())

    ranges = [seen.headers["Content-Range"] for seen in registry.asked("PATCH")]
    last = f"{CHUNK}-{len(CONTENT) - 1}"
    assert [f"0-{CHUNK - 1}", last, last] == ranges
    assert registry.lines("^GET")[0].endswith(f"%2B{CHUNK}")
    assert CONTENT == registry.blob(REPOSITORY, BLOB.digest)


@pytest.mark.parametrize("gone", ["session", "time", "nothing kept"])
async def test_session_that_is_gone(
    registry: UploadRegistry, process: Callable, clock: FakeClock, gone: str
) -> None:
    """A session that is no more, or a day old, or empty, is a push from the beginning: in chunks,
    so that the next cut costs less."""
    registry.quirks.keeps = gone != "nothing kept"
    await cut_off(registry, await process(), 12 * MIB)
    if gone == "session":
        registry.sessions.held.clear()
    if gone == "time":
        clock.now += LIFETIME + 1
    await push(await process())

    assert CONTENT == registry.blob(REPOSITORY, BLOB.digest)
    assert 2 == len(registry.lines("^POST"))
    assert (gone == "time") == (not registry.lines("^PATCH"))


async def test_records_are_for_the_owner(
    registry: UploadRegistry, process: Callable, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A session's URL is a secret: mode 0600 in 0700, and in no log and no repr."""
    caplog.set_level("DEBUG")
    await cut_off(registry, await process(), 12 * MIB)
    (record,) = folder.iterdir()
    state = json.loads(record.read_text())["url"].partition("_state=")[2]

    assert (0o600, 0o700) == (record.stat().st_mode & 0o777, folder.stat().st_mode & 0o777)
    assert state.startswith("a%2Fb")

    await push(await process())

    said = [each.getMessage() for each in caplog.records if each.name.startswith("registryd")]
    assert said
    assert not any(state in line for line in said)
    assert state not in repr(Kept(Secret(state), 0, 0))


async def test_two_processes_with_one_blob(
    registry: UploadRegistry, process: Callable, folder: Path, clock: FakeClock
) -> None:
    """Each has a session of its own: the record is locked by the first."""
    registry.quirks = Quirks()
    await cut_off(registry, await process(), 12 * MIB)
    other = UploadJournal(folder, lambda: clock.now)
    async with other.entry(registry.name, REPOSITORY, BLOB.digest) as entry:
        assert entry.kept is not None
        await push(await process())

    assert ["POST", "PUT", "POST", "PUT"] == methods(registry)
    assert 1 == len(list(folder.iterdir()))


async def test_refused_push_leaves_nothing(
    registry: UploadRegistry, process: Callable, folder: Path
) -> None:
    """After a clear no there is nothing to go on with."""
    registry.answer("^PUT", 403)
    with pytest.raises(Exception, match="403"):
        await push(await process())

    assert [] == list(folder.iterdir())
    assert 0 == registry.open_uploads


async def test_small_blobs_are_not_written_down(
    registry: UploadRegistry, process: Callable, folder: Path
) -> None:
    """They are sent anew."""
    small = b"x" * (JOURNALED_FROM - 1)
    await push(await process(), Descriptor.of("x", small), small)

    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2}', b"\xff" * 9])
async def test_records_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """What was cut off while it was written, or is another version's, is as nothing."""
    journal, key = UploadJournal(tmp_path), ("r.test", "a/b", Digest.of(b"x"))
    async with journal.entry(*key) as entry:
        await entry.keep(Kept(Secret("http://r.test/u"), 5, 7))
    (record,) = tmp_path.iterdir()
    async with journal.entry(*key) as entry:
        assert Kept(Secret("http://r.test/u"), 5, 7) == entry.kept
    record.write_bytes(content)
    async with journal.entry(*key) as entry:
        assert entry.kept is None


async def test_journal_that_cannot_be_written(
    registry: UploadRegistry, connect: Connect, tmp_path: Path
) -> None:
    """No push fails because of it."""
    (tmp_path / "file").write_text("")
    client = await connect(registry, journal=UploadJournal(tmp_path / "file/uploads"))
    await push(client)

    assert CONTENT == registry.blob(REPOSITORY, BLOB.digest)


async def test_old_records_are_removed(tmp_path: Path, clock: FakeClock) -> None:
    """What nobody went on with goes with the first push of a later process."""
    journal, digest = UploadJournal(tmp_path), Digest.of(b"x")
    async with journal.entry("r.test", "a/b", digest) as entry:
        await entry.keep(Kept(Secret("http://r.test/u"), 0, 0))
    (record,) = tmp_path.iterdir()
    later = UploadJournal(tmp_path, lambda: record.stat().st_mtime + LIFETIME + 1)
    async with later.entry("r.test", "a/c", digest):
        assert not record.exists()


async def test_wait_that_is_asked_for_in_the_middle(
    registry: UploadRegistry, connect: Connect
) -> None:
    """429 to a chunk: what was sent before it is not sent again."""
    registry.quirks = Quirks(whole_most=MIB)
    client = await connect(registry)

    def wait(answer: Reply) -> None:
        if len(registry.lines("^PATCH")) == 2:
            answer.status = 429
            for session, held in registry.sessions.held.items():
                registry.sessions.held[session] = held[:CHUNK]

    registry.change("^PATCH", wait)
    await push(client)

    assert 3 == len(registry.lines("^PATCH"))
    assert CONTENT == registry.blob(REPOSITORY, BLOB.digest)
