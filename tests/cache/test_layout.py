"""Paths and texts of a cache root."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import layout
from cache.content import Descriptor, Digest

ONE = Descriptor("application/x", Digest.of(b"one"), 3)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_key_of_an_ingest_leads_back_to_its_digest(algorithm):
    """A digest that was arriving is found again after a restart."""
    digest = Digest.of(b"abc", algorithm)

    assert digest == layout.digest_of_key(layout.ingest_key(digest))


@pytest.mark.parametrize("key", ["", "upload-00ff", "put-00ff", "sha256", "sha256-", "md5-00"])
def test_other_keys_are_no_digest(key):
    """Upload sessions and strangers have no digest."""
    assert layout.digest_of_key(key) is None


def test_a_blob_lies_where_the_layout_says():
    """Image specification 1.1, "Image Layout": blobs/<alg>/<encoded>."""
    assert Path(f"/c/blobs/sha256/{ONE.digest.hex}") == layout.blob_path(Path("/c"), ONE.digest)


@given(st.lists(st.tuples(st.text(), st.integers(0, 2**53))))
def test_the_names_of_an_index_read_back(names):
    """parse_index(render_index(x)) == x, in the same order."""
    entries = [(name, Descriptor("t", Digest.of(name.encode()), size)) for name, size in names]
    written = [(name, "t", str(each.digest), each.size) for name, each in entries]

    assert entries == layout.parse_index(layout.render_index(written))


@given(st.binary() | st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)
    | st.dictionaries(st.sampled_from(["manifests", "digest", "size", "annotations"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_index_is_too_broken_to_read(content):
    """Garbage gives no names, and never an error."""
    assert [] == layout.parse_index(content)


GOOD = {
    "mediaType": "application/x",
    "digest": str(ONE.digest),
    "size": 3,
    "annotations": {layout.REF_NAME: "good"},
}


@pytest.mark.parametrize(
    "broken",
    [
        None,
        7,
        [],
        {},
        GOOD | {"digest": "sha256:short"},
        GOOD | {"digest": 7},
        GOOD | {"size": "many"},
        GOOD | {"size": None},
        GOOD | {"size": -1},
        GOOD | {"annotations": None},
        GOOD | {"annotations": {}},
    ],
)
def test_an_entry_that_cannot_be_read_is_left_out(broken):
    """One broken entry costs its own name only."""
    content = json.dumps({"manifests": [broken, GOOD]}).encode()

    assert [("good", ONE)] == layout.parse_index(content)


def test_a_bottomless_index_is_garbage_too():
    """Text nested deeper than the parser goes gives no names."""
    assert [] == layout.parse_index(b"[" * 200_000)
