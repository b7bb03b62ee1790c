"""A lower store: read by path, as it is, whatever is done to it meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.content import Descriptor, Digest
from cache.layout import MADE_OF, REF_NAME, blob_path
from cache.lower import FRESH, HANDS, REST, Lower
from cache.lower_index import CHECKED, FULL_NAME, entry, made_entry, merged, parse
from cache.lower_reader import LowerAbsent, LowerFailed
from tests.cache.conftest import Clock
from tests.fakes.waiting import until

CONTENT = os.urandom(16) * (5 << 16)  # five MiB: more than is read ahead
DIGEST = Digest.of(CONTENT)
SMALL = b'{"small": true}'
LISTED = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(SMALL), len(SMALL))
NAME = "docker.io/library/alpine:3"


def write(root: Path, content: bytes) -> Path:
    """A blob, put there as another program would."""
    path = blob_path(root, Digest.of(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listing(*entries: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    root = tmp_path / "shared"
    for content in (CONTENT, SMALL):
        write(root, content)
    (root / "index.json").write_bytes(listing(entry(LISTED, NAME, 1000.0)))
    return root


async def whole(lower: Lower, digest: Digest = DIGEST, *, expected: bool = True) -> bytes:
    async with lower.reading(digest, expected=expected) as (_, pieces):
        return b"".join([piece async for piece in pieces])


async def test_without_a_thread_it_is_done_without(shared: Path) -> None:
    """Where no more of them may run the store gives nothing; when they may again, all goes on."""
    lower, usual = Lower(shared), threading.stack_size()
    threading.stack_size(1 << 46)  # for no stack of this size is there room
    try:
        for _ in range(HANDS + 1):
            async with asyncio.timeout(5):
                with pytest.raises(LowerFailed, match="thread"):
                    await whole(lower)
    finally:
        threading.stack_size(usual)

    assert CONTENT == await whole(lower)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [as_pipe, as_link, as_folder])
async def test_only_regular_files_are_read(shared: Path, harm: object) -> None:
    """What would hold a reader, or lead it elsewhere, is refused at once."""
    harm(blob_path(shared, DIGEST))  # type: ignore[operator]
    lower = Lower(shared)

    with pytest.raises(LowerFailed, match=r"regular|symbolic|directory"):
        await whole(lower)

    assert not lower.away


async def test_what_changes_while_it_is_read(shared: Path) -> None:
    """A file that is replaced or removed is read to its end; one that is cut under the reader ends
    in an error that says where, and in nothing worse."""
    path, lower = blob_path(shared, DIGEST), Lower(shared)
    async with lower.reading(DIGEST, expected=True) as (size, pieces):
        first = await anext(pieces)
        path.unlink()
        rest = [piece async for piece in pieces]
    path.write_bytes(CONTENT)
    with pytest.raises(LowerFailed, match="cut while it was read"):
        async with lower.reading(DIGEST, expected=True) as (_, pieces):
            await anext(pieces)
            os.truncate(path, 1 << 20)
            while True:
                await anext(pieces)

    assert (len(CONTENT), CONTENT) == (size, first + b"".join(rest))


async def test_a_view_that_is_late(shared: Path, tmp_path: Path) -> None:
    """What is known to be there is looked for again for a moment; anything else is just absent."""
    path, lower = blob_path(shared, DIGEST), Lower(shared)
    path.rename(tmp_path / "away")
    reading = asyncio.ensure_future(whole(lower))
    await asyncio.to_thread(lambda: None)
    with pytest.raises(LowerAbsent):  # begun later than the one that goes on looking
        await whole(lower, expected=False)
    (tmp_path / "away").rename(path)

    assert await reading == CONTENT


async def test_what_is_wrong_is_said_once(
    shared: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its path is in the log, it is left alone for a while, and then it may be right again."""
    path = blob_path(shared, LISTED.digest)
    path.write_bytes(SMALL.replace(b"true", b"fals"))
    lower, read = Lower(shared, clock=clock), list[bytes | None]()
    with caplog.at_level(logging.WARNING):
        read += [await lower.read(LISTED.digest, limit=100, expected=True) for _ in range(3)]
    path.write_bytes(SMALL)
    read += [await lower.read(LISTED.digest, limit=100, expected=True)]
    clock.now += REST
    mended = await lower.read(LISTED.digest, limit=100, expected=True)

    assert [None] * 4 == read
    assert [f"file={path}" in line for line in caplog.messages] == [True]
    assert (SMALL, 1) == (mended, lower.counts.errors)
    assert None is await lower.read(Digest.of(b"no"), limit=100, expected=False)


async def test_the_list_follows_its_file(shared: Path, clock: Clock) -> None:
    """A new index.json is seen after a moment, the last good one counts while it is half written
    or gone; what is wrong is told by ``unusable`` until it is well again."""
    lower, index = Lower(shared, clock=clock), shared / "index.json"
    good, seen = index.read_bytes(), []
    for content in (good, good[:50], None, listing(entry(LISTED, "b.c/d:1", 2000.0))):
        index.unlink(missing_ok=True)
        if content is not None:
            index.write_bytes(content)
        clock.now += FRESH
        seen.append((sorted((await lower.index()).names), bool(lower.unusable)))
    index.write_bytes(listing())
    early = sorted((await lower.index()).names)

    assert [([NAME], False), ([NAME], True), ([NAME], True), (["b.c/d:1"], False)] == seen
    assert ["b.c/d:1"] == early


@contextmanager
def by_squashfuse(root: Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The same files by a file system whose server is a process of ours."""
    if os.geteuid() or not os.path.exists("/dev/fuse") or not shutil.which("squashfuse"):
        pytest.skip("needs root, /dev/fuse and squashfuse")
    image = place / "image"
    subprocess.run(["mksquashfs", root, image, "-quiet", "-no-progress"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    folder = place / "mounted"
    folder.mkdir()
    process = subprocess.Popen(["squashfuse", "-f", image, folder])
    try:
        while not os.path.ismount(folder):
            assert process.poll() is None
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", folder], check=False)
        process.wait()


async def test_a_file_system_that_does_not_answer(
    shared: Path, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for it gets on; it is left alone for a while, said once, with no more threads
    stuck in it than may be; when it answers again, it is read again."""
    with by_squashfuse(shared, tmp_path) as server:
        lower = Lower(tmp_path / "mounted", clock=clock, stall=0.3)
        before = len((await lower.index()).names)
        server.send_signal(signal.SIGSTOP)
        failed = await asyncio.gather(*map(whole, [lower] * 3 * HANDS), return_exceptions=True)
        clock.now += REST
        stuck = len(lower._live), lower.away
        read = await lower.read(LISTED.digest, limit=100, expected=True)
        server.send_signal(signal.SIGCONT)
        await until(lambda: not lower._live)
        clock.now += REST
        after = await whole(lower)

    assert [LowerFailed] * 3 * HANDS == list(map(type, failed))
    assert "does not answer within 0.3 seconds" in map(str, failed)
    assert (HANDS, f"{HANDS} reads do not end") == stuck
    assert (1, None, CONTENT) == (before, read, after)
    assert 1 == len([line for line in caplog.messages if "left alone" in line])


# index.json

#: The whole suite has minutes; a run of its own can have more.
quick = settings(max_examples=50, deadline=None)

names = st.text("abz:/.@0", max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
moments = st.integers(0, 4_000_000_000).map(float)
entries = st.builds(entry, st.just(LISTED), names.filter(bool), moments) | st.builds(
    made_entry, st.just(LISTED), st.sampled_from([DIGEST, LISTED.digest])
)


def spoil(made: tuple[dict[str, object], str, object]) -> dict[str, object]:
    original, key, value = made
    notes = original["annotations"]
    assert isinstance(notes, dict)
    return {**original, "annotations": {**notes, key: value}} if "." in key else {
        **original, key: value
    }  # fmt: skip


keys = ("mediaType", "digest", "size", "annotations", REF_NAME, FULL_NAME, CHECKED, MADE_OF)
odd = st.tuples(entries, st.sampled_from(keys), values).map(spoil)


@quick
@given(st.lists(entries | odd | values, max_size=6), st.lists(entries, max_size=3), moments)
def test_any_index(strangers: list[object], good: list[dict[str, object]], modified: float) -> None:
    """Whatever others have written, what is right in it is found, later ones before earlier ones,
    nothing raises, and no name claims to be from the future."""
    read = parse(json.dumps({"manifests": [*strangers, *good]}).encode(), modified)

    assert read is not None
    for each in good:
        notes = each["annotations"]
        assert isinstance(notes, dict)
        if MADE_OF in notes:
            assert LISTED in read.made[Digest.parse(notes[MADE_OF])]
        else:
            assert read.names[notes[REF_NAME]].descriptor == LISTED
    assert all(listed.checked <= modified for listed in read.names.values())


@quick
@given(st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_index(content: bytes) -> None:
    """Half a file and other documents are told from an index that names nothing."""
    assert parse(content, 0.0) is None or b'"manifests"' in content
    assert parse(b'{"manifests": []}', 0.0) is not None


@quick
@given(st.lists(entries | odd | values, max_size=5), st.lists(entries, max_size=3))
@example([entry(LISTED, "", 0.0)], [])
def test_merging(before: list[object], new: list[dict[str, object]]) -> None:
    """What is entered is there once in place of its like, others stay as they are; entering it
    again changes nothing; a name that is taken out is gone."""
    listing: dict[str, object] = {"x": 1, "manifests": before}
    once = merged(listing, new, frozenset())
    twice = merged(once, new, frozenset())
    gone = frozenset(parse(json.dumps(once).encode(), 0.0).names)  # type: ignore[union-attr]
    after = parse(json.dumps(merged(once, [], gone)).encode(), 0.0)

    assert once == twice
    assert once["x"] == 1
    assert after is not None
    assert not after.names
