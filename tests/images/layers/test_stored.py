"""Layers in files: several read at once, each proven, and one refusal for all."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Barrier, get_ident

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch
from registryd.images.errors import NotAnImage, PathUnusable
from registryd.images.layers.allowance import Allowance
from registryd.images.layers.headers import read_entries
from registryd.images.layers.stored import StoredLayer, planned
from registryd.oci.media_types import OCI_LAYER_GZIP
from tests.images.layers.trees import IMAGE, layer, member
from tests.images.layers.trees import planned as alone

Stored = Callable[[bytes], StoredLayer]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """Makes a layer in a file of this content."""
    with ExitStack() as files:

        def make(raw: bytes) -> StoredLayer:
            packed = gzip.compress(raw, mtime=0)
            path = tmp_path / str(len(os.listdir(tmp_path)))
            path.write_bytes(packed)
            file = os.open(path, os.O_RDONLY)
            files.callback(os.close, file)
            return StoredLayer(file, Descriptor.of(OCI_LAYER_GZIP, packed), Digest.of(raw))

        yield make


RAW = [layer(*(member(f"d/{n}.{m}", b"x" * m) for m in range(300))) for n in range(6)]


def test_as_one_after_another(stored: Stored) -> None:
    """Layers that are read at once make the plan that they make in order, also one that recurs."""
    raw = [*RAW, layer(member("d/.wh.0.5"), member("d/.wh.1.7")), RAW[1]]
    plan = planned([stored(each) for each in raw], IMAGE)

    once = {named.path for each in alone(*raw[:7]).files for named in each}
    assert once | {b"d/1.7"} == {named.path for each in plan.files for named in each}  # it is back
    assert plan.inodes == 300 * 6 - 1 + 2


def test_they_are_read_at_once(stored: Stored) -> None:
    """Two layers are under way together, where there are two processors."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one processor")
    both, seen = Barrier(2, timeout=20), set()

    def told(_count: int) -> None:
        if get_ident() not in seen:
            seen.add(get_ident())
            both.wait()

    planned([replace(stored(each), told=told) for each in RAW[:2]], IMAGE)

    assert 2 == len(seen)


@pytest.mark.parametrize("bad", range(4))
def test_the_one_that_is_refused(stored: Stored, bad: int) -> None:
    """The line names the layer that is at fault, wherever it stands, and not another one."""
    layers = [stored(each) for each in RAW[:4]]
    layers[bad] = stored(layer(member("a", b"x" * 9000), member("../out")))
    with pytest.raises(NotAnImage, match=rf"^{IMAGE}, layer {bad + 1}: '\.\./out' leads out"):
        planned(layers, IMAGE)


def test_the_first_of_several(stored: Stored) -> None:
    """Of several that are at fault the lowest is named."""
    fault = layer(member("../out"))
    with pytest.raises(NotAnImage, match=r"layer 2: '\.\./out'"):
        planned([stored(RAW[0]), stored(fault), stored(fault + bytes(512))], IMAGE)


def test_what_it_unpacks_to(stored: Stored) -> None:
    """Another content than the configuration says is refused, and two contents of one layer."""
    first = stored(RAW[0])
    other = replace(first, diff_id=Digest.of(RAW[1]))
    with pytest.raises(DigestMismatch, match=r"layer 2 unpacks to .* but its configuration says"):
        planned([stored(RAW[2]), other], IMAGE)
    with pytest.raises(DigestMismatch, match="layer 2 cannot unpack to"):
        planned([first, other], IMAGE)


def test_limits_are_counted_to_the_last_entry() -> None:
    """However many entries are counted at once, an image may have exactly what is allowed."""
    raw = layer(*(member(f"{number:04}") for number in range(2500)))
    read_entries(BytesIO(raw), "layer 1", 0, Allowance(entries=2500, names=10_000))
    for short in (Allowance(entries=2499), Allowance(names=9999), Allowance(stopped=True)):
        with pytest.raises(NotAnImage, match=r"^layer 1: "):
            read_entries(BytesIO(raw), "layer 1", 0, short)


def test_a_disk_that_does_not_give_it(tmp_path: Path) -> None:
    """It is said of which layer, in one line; that it is a folder is what the system says here."""
    folder = os.open(tmp_path, os.O_RDONLY)
    descriptor = Descriptor.of(OCI_LAYER_GZIP, b"")
    try:
        with pytest.raises(PathUnusable, match=rf"^{descriptor.digest}: .*is a directory$"):
            planned([StoredLayer(folder, descriptor)], IMAGE)
    finally:
        os.close(folder)
