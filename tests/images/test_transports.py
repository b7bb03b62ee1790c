"""Locations: what people write for a source or a destination."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import DigestInvalid
from registryd.images.transports import ImageLocation
from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.oci.reference import Reference
from registryd.transfer.copy import copy_image
from tests.fakes.endpoints import MemorySource, image


@pytest.mark.parametrize(
    ("text", "transport", "path", "tag", "written"),
    [
        ("oci:out", "oci", "out", "", "oci:out"),
        ("oci:/a/b:3.20", "oci", "/a/b", "3.20", "oci:/a/b:3.20"),
        ("oci:out:docker.io/x:1", "oci", "out", "docker.io/x:1", "oci:out:docker.io/x:1"),
        ("dir:/a/b:c", "dir", "/a/b:c", "", "dir:/a/b:c"),
        ("ocidir:///a/b:c", "oci", "/a/b", "c", "oci:/a/b:c"),
        ("oci-archive:x.tar", "oci-archive", "x.tar", "", "oci-archive:x.tar"),
        ("oci-archive:x.tar:a/b:1", "oci-archive", "x.tar", "a/b:1", "oci-archive:x.tar:a/b:1"),
        ("docker-archive:-", "docker-archive", "-", "", "docker-archive:-"),
        ("docker-archive:x:@3", "docker-archive", "x", "@3", "docker-archive:x:@3"),
        (
            "docker-archive:x:alpine",
            "docker-archive",
            "x",
            "docker.io/library/alpine:latest",
            "docker-archive:x:docker.io/library/alpine:latest",
        ),
    ],
)
def test_files(text: str, transport: str, path: str, tag: str, written: str) -> None:
    """A file form gives its path, and but for ``dir:`` the tag after the first colon."""
    location = ImageLocation.parse(text)

    assert (transport, Path(path), tag) == (location.transport, location.path, location.tag)
    assert written == str(location)


@pytest.mark.parametrize(
    ("text", "transport", "written"),
    [
        ("alpine", "registry", "docker.io/library/alpine:latest"),
        ("docker://alpine:3", "registry", "docker.io/library/alpine:3"),
        ("localhost:5000/a/b:c", "registry", "localhost:5000/a/b:c"),
        ("cache:alpine:3", "cache", "cache:docker.io/library/alpine:3"),
    ],
)
def test_names(text: str, transport: str, written: str) -> None:
    """A name is a reference in a registry, or in the cache."""
    location = ImageLocation.parse(text)

    assert (transport, None) == (location.transport, location.path)
    assert written == str(location)


@pytest.mark.parametrize(
    "text",
    [
        "oci:",
        "oci::tag",
        "dir:",
        "oci-archive:",
        "docker-archive::x",
        "docker-archive:x:UPPER",
        f"docker-archive:x:alpine@sha256:{'0' * 64}",
        "docker-daemon:alpine",
        "dir:a\0b",
    ],
)
def test_what_is_no_location(text: str) -> None:
    """A form without a folder, or one that is not offered, is the caller's mistake."""
    with pytest.raises(UsageError):
        ImageLocation.parse(text)


@pytest.mark.parametrize("text", ["cache:", "UPPER", ""])
def test_what_is_no_name(text: str) -> None:
    """A name that is no reference says so."""
    with pytest.raises(ReferenceInvalid):
        ImageLocation.parse(text)


async def test_files_open(tmp_path: Path) -> None:
    """What each file form writes, each reads back; an archive is there when it was left."""
    sample = image(b"layer")
    for form in ("oci", "dir", "oci-archive", "docker-archive"):
        location = ImageLocation.parse(f"{form}:{tmp_path / form}")
        async with location.opened_sink(spool=tmp_path) as sink:
            await copy_image(MemorySource(sample), sink)
            there = location.path is not None and location.path.exists()
        async with location.opened_source(spool=tmp_path) as source:
            root = await source.root()

        assert (sample.root, not form.endswith("archive")) == (root, there)


async def test_names_are_no_files(tmp_path: Path) -> None:
    """A name in a registry cannot be opened as a file, nor a position be written to."""
    with pytest.raises(UsageError, match="is not a folder or file"):
        async with ImageLocation.parse("alpine").opened_source(spool=tmp_path):
            pass
    with pytest.raises(UsageError, match="not at a position"):
        async with ImageLocation.parse("docker-archive:x:@1").opened_sink(spool=tmp_path):
            pass


def test_an_archive_takes_the_name_of_what_it_is_given() -> None:
    """Only an archive without a name of its own, and only a name with a tag."""
    alpine = Reference.parse("alpine:3")
    named = {
        text: str(ImageLocation.parse(text).named(alpine))
        for text in ("oci:x", "dir:x", "oci-archive:x", "docker-archive:x", "oci-archive:x:y")
    }

    assert named == {
        "oci:x": "oci:x",
        "dir:x": "dir:x",
        "oci-archive:x": "oci-archive:x:docker.io/library/alpine:3",
        "docker-archive:x": "docker-archive:x:docker.io/library/alpine:3",
        "oci-archive:x:y": "oci-archive:x:y",
    }
    bare = ImageLocation.parse("docker-archive:x")
    assert bare == bare.named(alpine.bare()) == bare.named(None)


@given(
    st.from_regex(
        r"(oci|dir|cache|docker|oci-archive|docker-archive|ocidir)?:?(//)?[a-zA-Z0-9:@/._ -]*"
    )
    | st.text()
)
def test_any_text_is_a_location_or_a_mistake(text: str) -> None:
    """Every text gives a location that reads the same when written, or an error of ours."""
    try:
        location = ImageLocation.parse(text)
    except (UsageError, DigestInvalid):
        return

    assert location == ImageLocation.parse(str(location))
