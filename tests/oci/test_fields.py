"""JSON from strangers: what is refused before any meaning is looked for."""

import pytest

from registryd.oci import fields
from registryd.oci.fields import ENTRIES_LIMIT, SIZE_LIMIT, Malformed

SHA256 = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a":1,"a":2}', "'a' is there twice"),
        (b'{"x":[{"b":1,"c":2,"b":1}]}', "'b' is there twice"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"1" * 5000 + b"}", "not JSON"),
    ],
)
def test_load_refuses(raw: bytes, reason: str) -> None:
    """Anything but one UTF-8 JSON object whose members are there once is malformed."""
    with pytest.raises(Malformed, match=reason):
        fields.load(raw)


def test_many_members_are_checked_in_one_pass() -> None:
    """The search for members that are there twice is not slow on a hostile document."""
    raw = ("{" + ",".join(f'"{n}":0' for n in range(300_000)) + ',"299999":0}').encode()

    with pytest.raises(Malformed, match="twice"):
        fields.load(raw)


def test_missing_and_null_are_empty() -> None:
    """A member that is not there and one that is null are the same."""
    for members in ({}, {"k": None}):
        assert fields.text(members, "k") == ""
        assert fields.media_type(members, "k") == ""
        assert fields.texts(members, "k") == ()
        assert dict(fields.labels(members, "k")) == {}


@pytest.mark.parametrize("value", [5, True, [], {}, "\ud800"])
def test_a_text_is_a_text(value: object) -> None:
    """A text has the type of one, and can be written."""
    with pytest.raises(Malformed, match=r"^in\.k"):
        fields.text({"k": value}, "k", "in.")
    with pytest.raises(Malformed, match=r"^in\.k\[\]"):
        fields.texts({"k": [value]}, "k", "in.")
    with pytest.raises(Malformed, match=r"^in\.k\['a'\]"):
        fields.labels({"k": {"a": value}}, "k", "in.")


def test_a_label_has_a_key_that_can_be_written() -> None:
    """Keys are texts like any other."""
    with pytest.raises(Malformed, match="can be written"):
        fields.labels({"k": {"\udfff": "x"}}, "k")


def test_lists_are_bounded() -> None:
    """A list has the type of one and at most so many entries."""
    full = fields.entries({"k": [0] * ENTRIES_LIMIT}, "k")

    assert len(full) == ENTRIES_LIMIT
    with pytest.raises(Malformed, match="10001 entries, 10000 are allowed"):
        fields.entries({"k": [0] * (ENTRIES_LIMIT + 1)}, "k")
    with pytest.raises(Malformed, match="must be a list"):
        fields.entries({"k": {}}, "k")


@pytest.mark.parametrize("value", ["json", "a/b\n", "é/x", "/x", "a/" + "x" * 254])
def test_bad_media_types(value: str) -> None:
    """A media type has a slash, is printable and short."""
    with pytest.raises(Malformed, match="is not a media type"):
        fields.media_type({"k": value}, "k")


@pytest.mark.parametrize("value", ["a/b", "a/b; c=d", "a/" + "x" * 253])
def test_good_media_types(value: str) -> None:
    """Parameters are allowed: artifacts use them."""
    assert value == fields.media_type({"k": value}, "k")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (-1, "-1"),
        (1.0, "1.0"),
        (True, "True"),
        ("5", "'5'"),
        (None, "None"),
        (SIZE_LIMIT + 1, "so large a number"),
        ([[]], "a list or an object"),
    ],
)
def test_sizes_are_whole_numbers(size: object, shown: str) -> None:
    """A size is a JSON integer that a file can have; nothing that only looks like one."""
    value = {"mediaType": "a/b", "digest": SHA256, "size": size}

    with pytest.raises(Malformed, match=rf"^x\.size must be a whole number of bytes, not {shown}$"):
        fields.descriptor(value, "x")


@pytest.mark.parametrize("size", [0, SIZE_LIMIT])
def test_sizes_up_to_the_limit(size: int) -> None:
    """Empty content has a descriptor too, and so has the largest file."""
    value = {"mediaType": "a/b", "digest": SHA256, "size": size, "more": []}

    assert size == fields.descriptor(value, "x").size


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "x must be an object"),
        ([], "x must be an object"),
        ({"digest": SHA256, "size": 1}, r"x\.mediaType is missing"),
        ({"mediaType": "", "digest": SHA256, "size": 1}, r"x\.mediaType is missing"),
        ({"mediaType": "a/b", "size": 1}, r"x\.digest: '' is not a digest"),
        ({"mediaType": "a/b", "digest": 5, "size": 1}, r"x\.digest must be a text"),
        ({"mediaType": "a/b", "digest": "sha256:0", "size": 1}, r"x\.digest: .* 64"),
        ({"mediaType": "a/b", "digest": "blake3:00", "size": 1}, r"x\.digest: .* is unknown"),
    ],
)
def test_bad_descriptors(value: object, reason: str) -> None:
    """A descriptor has a media type, a digest and a size; the line names the one that is wrong."""
    with pytest.raises(Malformed, match=reason):
        fields.descriptor(value, "x")
