"""``index.json`` is true at every moment, and other tools read the root while we run."""

import asyncio
import json
import shutil
import subprocess
import threading

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DiskFull
from cache.layout import blob_path
from cache.listing import Listing
from tests.cache.samples import MANIFEST_TYPE, arriving, entries, layer, parent
from tests.contract.blob_store import NAME, REPOSITORY, image

ROUNDS = 60


class Witness(threading.Thread):
    """Reads index.json again and again, and checks that all it names is there."""

    def __init__(self, root):
        super().__init__()
        self.looks = 0
        self.lies = []
        self._root = root
        self._ending = threading.Event()

    def run(self):
        """Look until told to end."""
        while not self._ending.is_set():
            self.looks += 1
            document = json.loads((self._root / "index.json").read_bytes())
            for entry in document["manifests"]:
                self._check(entry)

    def _check(self, entry):
        try:
            content = blob_path(self._root, Digest.parse(entry["digest"])).read_bytes()
            assert entry["size"] == len(content)
            for child in json.loads(content)["children"]:
                assert blob_path(self._root, Digest.parse(child)).stat().st_size > 0
        except (OSError, AssertionError) as error:
            # It may have gone since we read the name; then the name must have gone before it.
            if entry in json.loads((self._root / "index.json").read_bytes())["manifests"]:
                self.lies.append((entry, error))

    def end(self):
        """What was seen to be untrue."""
        self._ending.set()
        self.join()
        return self.lies


async def test_whatever_is_named_is_there(store, root):
    """Names come and go, children arrive last, content is removed: never a name too many."""
    witness = Witness(root)
    witness.start()

    async def live(at):
        (one, first), (two, second) = layer(f"{at} one"), layer(f"{at} two")
        content, manifest, links = parent(first, second)
        await store.put(one, first)
        await store.put(content, manifest, links=links)
        await store.tag(f"{REPOSITORY}:{at}", REPOSITORY, manifest)
        await store.put(two, second)
        everything = [first.digest, second.digest, manifest.digest]
        removing = asyncio.ensure_future(remove(everything))
        await store.untag(f"{REPOSITORY}:{at}")
        await removing
        assert not any(map(store.find, everything))

    async def remove(digests):
        while any(map(store.find, digests)):
            await store.remove(digests)

    try:
        for start in range(0, ROUNDS, 6):
            async with asyncio.TaskGroup() as group:
                for at in range(start, start + 6):
                    group.create_task(live(at))
    finally:
        lies = await asyncio.to_thread(witness.end)

    assert [] == lies
    assert witness.looks > ROUNDS / 6
    assert {} == entries(root)
    assert [] == arriving(root)


async def test_names_set_at_once_are_all_there(store, root):
    """Concurrent tags end up in the file, every one, whoever wrote it."""
    descriptor, _ = await image(store, "a", tag=False)
    names = [f"{REPOSITORY}:{at}" for at in range(100)]
    await asyncio.gather(*(store.tag(name, REPOSITORY, descriptor) for name in names))

    assert set(names) == set(entries(root))

    await asyncio.gather(*(store.untag(name) for name in names[1:]))
    assert {names[0]: str(descriptor.digest)} == entries(root)


async def test_incomplete_names_are_not_shown(store, root):
    """A name appears with its last child, and leaves when it is moved to what is not whole."""
    first, _ = await image(store, "a")
    content, child = layer("late")
    text, manifest, links = parent(child)
    await store.put(text, manifest, links=links)

    assert {NAME: str(first.digest)} == entries(root)

    await store.tag(NAME, REPOSITORY, manifest)
    assert {} == entries(root)

    await store.put(content, child)
    assert {NAME: str(manifest.digest)} == entries(root)


async def test_a_name_of_the_same_is_not_written_again(store, root):
    """Nothing new costs no write."""
    descriptor, _ = await image(store, "a")
    before = (root / "index.json").stat().st_ino
    await store.tag(NAME, REPOSITORY, descriptor)

    assert before == (root / "index.json").stat().st_ino


async def test_callers_share_a_write():
    """Those who come while one writes are served by one more write, which they all wait for."""
    state, rendered, written = ["old"], [], []
    first, go = asyncio.Event(), asyncio.Event()

    async def render():
        rendered.append(state[0])
        return state[0].encode()

    async def write(content):
        first.set()
        await go.wait()
        written.append(content)

    listing = Listing(render, write)
    callers = [asyncio.ensure_future(listing.publish())]
    await first.wait()
    state[0] = "new"
    callers += [asyncio.ensure_future(listing.publish()) for _ in range(10)]
    go.set()
    await asyncio.gather(*callers)

    assert ["old", "new"] == rendered
    assert [b"old", b"new"] == written


async def test_a_failed_write_is_made_up_for_by_the_next_in_line():
    """Nobody in the queue believes that a write that failed was done."""
    tried, written = [], []

    async def render():
        return b"content"

    async def write(content):
        tried.append(content)
        await asyncio.sleep(0)  # the others come into the queue
        if len(tried) < 3:
            raise DiskFull("no room")
        written.append(content)

    listing = Listing(render, write)
    results = await asyncio.gather(*(listing.publish() for _ in range(4)), return_exceptions=True)

    assert [DiskFull, DiskFull, type(None), type(None)] == [type(result) for result in results]
    assert [b"content"] == written


@pytest.mark.parametrize(
    "name",
    [
        "docker.io/library/alpine:3.20",
        "localhost/x/y:1",
        "localhost:5000/x:1.0-rc_1",
        "ghcr.io/org/app:latest",
    ],
)
async def test_skopeo_reads_the_live_root(store, root, name):
    """The root is an OCI layout: a tool that knows nothing of us finds names of ours in it."""
    assert shutil.which("skopeo"), "skopeo is one of the parts these tests are made of"
    content, config = layer("{}")
    await store.put(content, config)
    text = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE,
                       "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                                  "digest": str(config.digest), "size": config.size},
                       "layers": []}).encode()  # fmt: skip
    manifest = Descriptor.of(MANIFEST_TYPE, text)
    await store.put(text, manifest)
    await store.tag(name, name.rpartition(":")[0], manifest)
    await store.tag("example.test/other:1", "example.test/other", manifest)
    told = await asyncio.to_thread(
        subprocess.run,
        ["skopeo", "inspect", "--raw", f"oci:{root}:{name}"],
        capture_output=True,
        timeout=60,
    )

    assert (0, text, b"") == (told.returncode, told.stdout, told.stderr)
