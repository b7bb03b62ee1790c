"""What a hostile registry may send: an error of ours or a value, in bounded time and memory.

``tests.oci`` has the table of faults for each reader; here are those that are meant to hurt.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import Fault
from registryd.oci.challenge import parse_challenges, parse_scopes
from registryd.oci.errors import ManifestInvalid
from registryd.oci.fields import ENTRIES_LIMIT
from registryd.oci.image_config import parse_config
from registryd.oci.manifest import MANIFEST_LIMIT, Index, parse
from registryd.oci.media_types import OCI_INDEX, OCI_MANIFEST
from registryd.oci.platform import Platform
from registryd.oci.ranges import ContentRange, parse_range, parse_upload_range
from registryd.oci.reference import Reference
from registryd.oci.referrers import entry_of, referrers_in, with_entry
from registryd.oci.wire_errors import parse_errors, refusal
from tests.oci.documents import dump, entry, image, index

#: Far beyond what any of this takes, far below what a quadratic one would.
SECONDS = 5.0
#: Bytes in memory for a byte on the wire: JSON of many small numbers is the worst.
FACTOR = 40


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """In bounded time and memory."""
    tracemalloc.start()
    try:
        began = time.process_time()
        yield
        took = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert took < SECONDS
    assert peak < FACTOR * max(size, 2**16)


def nested(depth: int, opening: str, closing: str) -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


def with_members(base: dict[str, Any], members: str) -> bytes:
    """A document, with these members written before its own."""
    return b"{" + members.encode("utf-8", "surrogatepass") + b"," + json.dumps(base).encode()[1:]


DIGIT = "9" * 5000
#: What is no JSON at all, by whoever reads it strictly.
NO_JSON = [
    b"",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xc0\xaf"}',
    b'{"schemaVersion":2}{}',
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":01}',
    b"[" * 200_000,
    b'{"a":' * 100_000,
    nested(100_000, "[", "]"),
    nested(50_000, '{"a":', "}"),
    b"1",
    b"null",
    b'"' + b"\\u0000" * 1000,
]
#: Members that no document may have, wherever they stand.
NO_MEMBERS = [
    '"a":NaN',
    '"a":-Infinity',
    '"a":[{"b":Infinity}]',
    '"a":1,"a":1',
    '"x":{"b":1,"b":2}',
    '"mediaType":"application/vnd.oci.image.index.v1+json"',
    '"schemaVersion":2',
    f'"a":{DIGIT}',
]


@pytest.mark.parametrize("read", [parse, parse_config], ids=["manifest", "config"])
@pytest.mark.parametrize("raw", NO_JSON, ids=range(len(NO_JSON)))
def test_no_json(read: Callable[[bytes], object], raw: bytes) -> None:
    """Bytes that are no JSON are refused in one line, as deep and long as they are."""
    with bounded(len(raw)), pytest.raises(ManifestInvalid) as caught:
        read(raw)

    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("base", [image(), index(entry("a", OCI_MANIFEST))], ids=["image", "index"])
@pytest.mark.parametrize("members", NO_MEMBERS)
def test_members_that_two_readers_see_differently(base: dict[str, Any], members: str) -> None:
    """Numbers that are none in JSON, members that are there twice: refused, also where unused."""
    assert parse(json.dumps(base).encode())
    with pytest.raises(ManifestInvalid):
        parse(with_members(base, members))


@pytest.mark.parametrize(
    "value",
    [1e400, -1, 2**63, 2**64, 10**4000, 1.5, True, None, "1", [], {}],
    ids=lambda value: str(value)[:8],
)
def test_sizes(value: object) -> None:
    """A size is a whole number that a file can have, and nothing else is."""
    text = json.dumps(image(layers=[entry("one") | {"size": "HERE"}]))
    # What json writes for an infinite float is no JSON; 1e400 is.
    written = "1e400" if value == 1e400 else json.dumps(value)
    with pytest.raises(ManifestInvalid):
        parse(text.replace('"HERE"', written).encode())


@pytest.mark.parametrize("over", [0, 1])
def test_ten_thousand_entries(over: int) -> None:
    """An index of as many entries as are allowed is read quickly; one more is refused."""
    entries = [entry("same", OCI_MANIFEST)] * (ENTRIES_LIMIT + over)
    raw = dump(index(*entries)).replace(b"\n   ", b"")
    with bounded(len(raw)):
        if over:
            with pytest.raises(ManifestInvalid, match=f"{ENTRIES_LIMIT} are allowed"):
                parse(raw)
        else:
            found = parse(raw)
            assert isinstance(found, Index)
            assert 1 == len(found.children)


def test_a_full_list_of_referrers() -> None:
    """A list to which no entry can be added any more says so, and stays as it is."""
    distinct = [entry(str(number), OCI_MANIFEST) for number in range(ENTRIES_LIMIT)]
    full = parse(json.dumps(index(*distinct), separators=(",", ":")).encode())
    assert isinstance(full, Index)
    with pytest.raises(ManifestInvalid):
        with_entry(full, entry_of(parse(dump(image()))))

    assert ENTRIES_LIMIT == len(referrers_in(full, Digest.of(b"x")))


@pytest.mark.parametrize(
    "value",
    [
        "[" + "1," * (MANIFEST_LIMIT // 2 - 1000) + "1]",
        "{" + ",".join(f'"{number:x}":0' for number in range(MANIFEST_LIMIT // 10)) + "}",
        '"' + "x" * (MANIFEST_LIMIT - 1000) + '"',
    ],
    ids=["numbers", "members", "text"],
)
def test_as_large_as_a_manifest_may_be(value: str) -> None:
    """Nearly 4 MiB in a member that we do not know are passed by."""
    raw = with_members(image(), f'"a":{value}')
    assert MANIFEST_LIMIT / 2 < len(raw) <= MANIFEST_LIMIT

    began = time.process_time()
    parse(raw)
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST, "text/plain", "\x00", "a" * 10**6])
def test_any_content_type(media_type: str) -> None:
    """A content type makes a refusal at most."""
    for document in (image(), index(), image(mediaType=None), index(mediaType=None)):
        try:
            parse(dump(document), media_type)
        except Fault as fault:
            assert isinstance(fault, ManifestInvalid)
            assert len(str(fault)) < 400


# Texts: nothing but our own errors, and no time to speak of.

PIECES = (
    *'<>"\\ ,=;[{(:/@-.%1aA\t',
    *("=,", '",', '\\"', 'a="', "a=", "a ", "a.", "a/", "a:", "..", "__", "1-", "-1 ", "%2"),
    *("bytes ", "Bearer ", "sha256:", "repository:", "<title", "http://", "\x00", "\u202e", "é"),
)
READERS: dict[str, Callable[[str], object]] = {
    "challenges": lambda text: parse_challenges([text, text]),
    "scopes": parse_scopes,
    "reference": Reference.parse,
    "digest": Digest.parse,
    "platform": Platform.parse,
    "range": lambda text: parse_range(text, 100),
    "content-range": ContentRange.parse,
    "upload-range": parse_upload_range,
    "errors": lambda text: refusal(400, parse_errors(400, text.encode(), ""), "x"),
    "page": lambda text: refusal(404, parse_errors(404, text.encode(), "text/html"), "x"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_text_that_repeats(reader: str) -> None:
    """However a text of 16 kB repeats itself, it is read in one pass, or refused in a line."""
    for piece in PIECES:
        for first in ("", "bytes=", "Bearer ", 'a="'):
            began = time.process_time()
            said = read_or_refuse(READERS[reader], first + piece * (16_000 // len(piece)))

            assert time.process_time() - began < SECONDS / 5, (first, piece)
            assert len(said) < 2000


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=40)
@given(data=st.data())
def test_any_text(reader: str, data: st.DataObject) -> None:
    """A text made of what each grammar is made of is read, or refused as ours."""
    pieces = data.draw(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30))
    text = "".join(pieces).encode("utf-8", "replace").decode()
    said = read_or_refuse(READERS[reader], text)

    assert "\n" not in said


def read_or_refuse(read: Callable[[str], object], text: str) -> str:
    """What the refusal says, if this is not read."""
    try:
        read(text)
    except Fault as fault:
        return str(fault)
    return ""


names = st.text(max_size=5)
deep = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
MEMBERS = (
    *("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject"),
    *("artifactType", "platform", "os", "architecture", "rootfs", "diff_ids", "history"),
)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(MEMBERS), deep, max_size=6))
def test_any_document(members: dict[str, Any]) -> None:
    """Known members of any value are a document, a configuration, or refused as invalid."""
    for base in ({}, image(), index(entry("a", OCI_MANIFEST))):
        raw = json.dumps({**base, **members}).encode()
        for read in (parse, parse_config):
            try:
                read(raw)
            except Fault as fault:
                assert isinstance(fault, ManifestInvalid)
