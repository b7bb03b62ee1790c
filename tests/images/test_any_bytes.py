"""Whatever a file form holds: an image, or one error of ours; never another exception."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.errors import Fault
from registryd.images.collection import ImageFile, open_images
from registryd.images.folder import FolderSink
from registryd.images.layout import LayoutSink
from registryd.transfer.copy import copy_image
from tests.fakes.endpoints import MemorySink, MemorySource, image, index
from tests.images.archives import Saved, files, saved, squeeze

SAMPLE = index(amd64=image(b"a"), arm64=image(b"b", architecture="arm64"))

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["sha256:" + "0" * 64, "../../etc/passwd", "@1", "1.0.0", 2**70, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def everything(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


async def _made() -> dict[str, dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await copy_image(MemorySource(SAMPLE), LayoutSink(folder / "oci", "tag"))
        await copy_image(MemorySource(SAMPLE), FolderSink(folder / "dir"))
        layout, flat = everything(folder / "oci"), everything(folder / "dir")
    one, two = Saved(), Saved(tags=("b:1",), pack=squeeze)
    return {
        "oci": layout,
        "dir": flat,
        "oci-archive": layout,
        "docker-archive": {
            **layout,
            **one.members(),
            **two.members(),
            "manifest.json": json.dumps([one.listed, two.listed]).encode(),
        },
    }


def spoilt(content: bytes, draw: st.DrawFn) -> bytes:
    """This content with something else in it."""
    kind = draw(st.sampled_from(["bytes", "flip", "json", "leaf", "leaf", "leaf"]))
    if kind == "bytes":
        return draw(st.binary(max_size=80))
    if kind == "json":
        return json.dumps(draw(JSON)).encode()
    if kind == "leaf":
        with contextlib.suppress(ValueError):
            value = json.loads(content)
            return json.dumps(_with_leaf(value, draw)).encode()
    at = draw(st.integers(0, max(0, len(content) - 1)))
    return content[:at] + draw(st.binary(max_size=9)) + content[at + 4 :]


def _with_leaf(value: Any, draw: st.DrawFn) -> Any:
    """The same with one member, at any depth, replaced or taken away."""
    keys: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = list(range(len(value)))
    if not keys or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 4)) == 0:
        del value[key]
    else:
        value[key] = _with_leaf(value[key], draw)
    return value


async def read_all(file: ImageFile, spool: Path) -> None:
    """Everything of every image."""
    async with open_images(file, spool=spool) as found:
        for each in found:
            with contextlib.suppress(Fault):
                await copy_image(each.source, MemorySink())


FORMS = asyncio.run(_made())


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), form=st.sampled_from(sorted(FORMS)))
def test_any_content_is_an_image_or_an_error_of_ours(data: st.DataObject, form: str) -> None:
    """One file of an image is spoilt in any way, in every form that images have as files."""

    @st.composite
    def contents(draw: st.DrawFn) -> dict[str, bytes]:
        made = dict(FORMS[form])
        name = draw(st.sampled_from(sorted(made)))
        if draw(st.integers(0, 9)) == 0:
            del made[name]
        else:
            made[name] = spoilt(made[name], draw)
        return made

    made = data.draw(contents())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = folder / "place"
        if form.endswith("-archive"):
            raw = files(made)
            place.write_bytes(squeeze(raw) if data.draw(st.booleans()) else raw)
        else:
            for each, content in made.items():
                (place / each).parent.mkdir(parents=True, exist_ok=True)
                (place / each).write_bytes(content)
        with contextlib.suppress(Fault):
            asyncio.run(read_all(ImageFile(place), folder))


@settings(deadline=None, max_examples=100)
@given(
    spots=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=9)), max_size=3),
    cut=st.none() | st.integers(0, 3000),
    beginning=st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"]),
)
def test_any_compressed_archive(
    spots: list[tuple[int, bytes]], cut: int | None, beginning: bytes
) -> None:
    """A compressed archive that was damaged anywhere, or only begins like one."""
    raw = bytearray(squeeze(saved(Saved())))
    for at, value in spots:
        raw[at : at + len(value)] = value
    whole = bytes(raw[:cut])
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "place"
        place.write_bytes(beginning + whole[len(beginning) :])
        with contextlib.suppress(Fault):
            asyncio.run(read_all(ImageFile(place), Path(name)))
