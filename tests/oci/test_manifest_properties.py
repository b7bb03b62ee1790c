"""Manifests and indexes that were damaged in every way: read or refused, and nothing else."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import DigestMismatch
from registryd.oci.errors import ManifestInvalid
from registryd.oci.manifest import Document, parse
from registryd.oci.media_types import DOCKER_MANIFEST, DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST
from tests.oci.documents import entry, image, index, platform_entry

BASES = [
    image(annotations={"a": "b"}, subject=entry("s"), artifactType="application/x.y"),
    image(mediaType=None),
    index(platform_entry("amd", "linux/amd64"), entry("n", OCI_INDEX)),
    index(entry("x", platform={"os": "linux", "architecture": "arm"}), mediaType=None),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([OCI_INDEX, OCI_MANIFEST, DOCKER_SCHEMA1, "sha256:0", 2**64])
)
junk = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars)
CONTENT_TYPES = [None, "text/plain", OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST]


def places(value: object) -> list[tuple[Any, Any]]:
    """Every container in this JSON with every key or position of it."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@given(
    st.sampled_from(BASES),
    st.lists(st.tuples(st.integers(0, 999), junk), max_size=3),
    st.sampled_from(CONTENT_TYPES),
)
def test_mutated_documents(
    base: dict[str, Any], mutations: list[tuple[int, object]], content_type: str | None
) -> None:
    """Whatever a member is changed to, the document is read or refused as invalid."""
    members = json.loads(json.dumps(base))
    for position, replacement in mutations:
        found = places(members)
        if found:
            container, key = found[position % len(found)]
            container[key] = replacement
    _read_or_refused(json.dumps(members).encode(), content_type)


@given(st.sampled_from(BASES), st.data())
def test_damaged_bytes(base: dict[str, Any], data: st.DataObject) -> None:
    """The same for damaged bytes."""
    raw = bytearray(json.dumps(base).encode())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    _read_or_refused(bytes(raw), None)
    _read_or_refused(bytes(raw), None, Digest.of(json.dumps(base).encode()))


@given(st.binary(max_size=50))
def test_any_bytes(raw: bytes) -> None:
    """And for bytes of any kind."""
    _read_or_refused(raw, None)


def _read_or_refused(raw: bytes, content_type: str | None, expected: Digest | None = None) -> None:
    try:
        document: Document = parse(raw, content_type, expected)
    except (ManifestInvalid, DigestMismatch) as error:
        assert len(str(error)) < 1000
        return

    assert raw == document.raw
    assert len({child.digest for child in document.children}) == len(document.children)
    assert (expected or Digest.of(raw)) == document.digest
