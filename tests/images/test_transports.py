"""Locations: what people write for a source or a destination."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import DigestInvalid
from registryd.images.folder import FolderSink, FolderSource
from registryd.images.layout import LayoutSink, LayoutSource
from registryd.images.transports import ImageLocation
from registryd.oci.errors import ReferenceInvalid, UsageError


@pytest.mark.parametrize(
    ("text", "transport", "path", "tag", "written"),
    [
        ("oci:out", "oci", "out", "", "oci:out"),
        ("oci:/a/b:3.20", "oci", "/a/b", "3.20", "oci:/a/b:3.20"),
        ("oci:out:docker.io/x:1", "oci", "out", "docker.io/x:1", "oci:out:docker.io/x:1"),
        ("dir:/a/b:c", "dir", "/a/b:c", "", "dir:/a/b:c"),
    ],
)
def test_files(text: str, transport: str, path: str, tag: str, written: str) -> None:
    """A file form gives its folder, and for a layout the tag after the first colon."""
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


@pytest.mark.parametrize("text", ["oci:", "oci::tag", "dir:", "oci-archive:x.tar", "dir:a\0b"])
def test_what_is_no_location(text: str) -> None:
    """A form without a folder, or one that is not offered, is the caller's mistake."""
    with pytest.raises(UsageError):
        ImageLocation.parse(text)


@pytest.mark.parametrize("text", ["cache:", "UPPER", ""])
def test_what_is_no_name(text: str) -> None:
    """A name that is no reference says so."""
    with pytest.raises(ReferenceInvalid):
        ImageLocation.parse(text)


def test_files_open() -> None:
    """Each file form gives its own source and sink."""
    layout, folder = ImageLocation.parse("oci:x:y"), ImageLocation.parse("dir:x")

    assert [LayoutSource, LayoutSink] == [type(layout.file_source()), type(layout.file_sink())]
    assert [FolderSource, FolderSink] == [type(folder.file_source()), type(folder.file_sink())]


def test_names_are_no_files() -> None:
    """A name in a registry cannot be opened as a file."""
    with pytest.raises(UsageError, match="is not a folder"):
        ImageLocation.parse("alpine").file_source()


@given(st.from_regex(r"(oci|dir|cache|docker|oci-archive)?:?(//)?[a-zA-Z0-9:@/._ -]*") | st.text())
def test_any_text_is_a_location_or_a_mistake(text: str) -> None:
    """Every text gives a location that reads the same when written, or an error of ours."""
    try:
        location = ImageLocation.parse(text)
    except (UsageError, DigestInvalid):
        return

    assert location == ImageLocation.parse(str(location))
