"""Error bodies of registries, and the errors of ours that they become."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import (
    BlobUnknown,
    Denied,
    ErrorEntry,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    RangeInvalid,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unavailable,
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registryd.oci.wire_errors import (
    DETAIL_LIMIT,
    ENTRIES_LIMIT,
    ERROR_BODY_LIMIT,
    TEXT_LIMIT,
    clean,
    format_errors,
    parse_errors,
    refusal,
)


def _detail(text: str) -> str:
    """What is kept of an entry's detail."""
    body = f'{{"errors":[{{"code":"A","detail":{text}}}]}}'.encode()
    return parse_errors(400, body)[0].detail


BODIES = [
    (
        b'{"errors":[{"code":"DENIED","message":"no","detail":{"a":1}}]}',
        [ErrorEntry("DENIED", "no", '{"a": 1}')],
    ),
    (
        b'{"errors":[{"code":"A","message":"x"},{"code":"B","message":"y"}]}',
        [ErrorEntry("A", "x"), ErrorEntry("B", "y")],
    ),
    (b'{"errors":[{"code":404,"message":"x"}]}', [ErrorEntry("404", "x")]),
    (b'{"errors":[{"code":"manifest unknown"}]}', [ErrorEntry("MANIFEST_UNKNOWN")]),
    (b'{"errors":[{"message":"x"}]}', [ErrorEntry("", "x")]),
    (b'{"errors":[{"code":"A","detail":"why"}]}', [ErrorEntry("A", "why", '"why"')]),
    (b'{"errors":["x", 5, null, "", {}, {"code": true}]}', [ErrorEntry("", "x")]),
    (b'{"errors":[]}', []),
    (b'{"errors":null,"message":"x"}', [ErrorEntry("", "x")]),
    (b'{"details":"incorrect username"}', [ErrorEntry("", "incorrect username")]),
    (b'{"message":"x","code":"b"}', [ErrorEntry("B", "x")]),
    (
        b'{"error":"invalid_grant","error_description":"expired"}',
        [ErrorEntry("INVALID_GRANT", "expired")],
    ),
    (b"{}", []),
    (b"", []),
    (b" \n", []),
    (b"404 page not found\n", [ErrorEntry("", "404 page not found")]),
    (b"404", []),
    (b"[1]", [ErrorEntry("", "[1]")]),
    (b'{"errors":', [ErrorEntry("", '{"errors":')]),
    (b"\xff\xfe", [ErrorEntry("", "\N{REPLACEMENT CHARACTER}" * 2)]),
    (
        b"<html><head><TITLE>Sign\n in</TITLE>",
        [ErrorEntry("", "a web page (Sign in) in place of a registry's answer")],
    ),
    (b"\n<html>", [ErrorEntry("", "a web page in place of a registry's answer")]),
    (b"<title> </title>", [ErrorEntry("", "a web page in place of a registry's answer")]),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_bodies(body: bytes, expected: list[ErrorEntry]) -> None:
    """JSON of all shapes in use, text and web pages all become entries."""
    assert tuple(expected) == parse_errors(404, body)


def test_a_content_type_tells_a_web_page() -> None:
    """A body that is declared to be HTML is a web page however it begins."""
    (entry,) = parse_errors(502, b"Bad gateway", "text/html; charset=utf-8")

    assert entry.message == "a web page in place of a registry's answer"


def test_one_clean_line() -> None:
    """Control characters, line breaks and text-direction marks are removed, length is bounded."""
    message = "a\x1b[31m\r\n\tb\u202ec" + "x" * 1000
    (entry,) = parse_errors(
        400, json.dumps({"errors": [{"code": "A", "message": message}]}).encode()
    )

    assert entry.message.startswith("a [31m b cxxx")
    assert len(entry.message) == TEXT_LIMIT
    assert entry.message.endswith("...")
    assert clean("ab") == "ab"


def test_only_so_much_is_read() -> None:
    """A huge body costs no more than the limit, and many entries no more than some."""
    many = json.dumps({"errors": [{"code": "A"}] * 1000}).encode()
    (entry,) = parse_errors(500, b"x" * (ERROR_BODY_LIMIT + 1))

    assert len(parse_errors(500, many)) == ENTRIES_LIMIT
    assert len(entry.message) == TEXT_LIMIT


def test_a_detail_is_bounded() -> None:
    """A long or deep detail is left out; what says more than the entry is kept whole."""
    most = "x" * (DETAIL_LIMIT - 2)

    assert [f'"{most}"', ""] == [_detail(f'"{most}"'), _detail(f'"{most}x"')]
    assert _detail("[" * 900 + "]" * 900) == ""


@pytest.mark.parametrize("depth", [10, 100, 499, 900, 950, 990, 1000, ERROR_BODY_LIMIT // 4])
def test_a_detail_of_any_depth(depth: int) -> None:
    """Nesting without end is not followed, neither in reading nor in writing."""
    body = b'{"errors":[{"code":"A","detail":' + b"[" * depth + b"]" * depth + b"}]}"

    assert json.loads(format_errors(parse_errors(400, body)))["errors"]


def test_format() -> None:
    """Bodies of ours have the specified form; a detail is JSON again."""
    body = format_errors(
        [ErrorEntry("A", "x", '{"a": 1}'), ErrorEntry("B"), ErrorEntry("C", "", "{")]
    )
    expected = [
        {"code": "A", "message": "x", "detail": {"a": 1}},
        {"code": "B", "message": ""},
        {"code": "C", "message": "", "detail": "{"},
    ]

    assert {"errors": expected} == json.loads(body)


texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(clean)
entries = st.builds(
    ErrorEntry,
    st.text("ABC_", min_size=1, max_size=9),
    texts.filter(bool),
    st.just("") | st.just('{"a": [1]}'),
)


@given(st.lists(entries, max_size=5))
def test_round_trip(wanted: list[ErrorEntry]) -> None:
    """What we say is what we read."""
    assert tuple(wanted) == parse_errors(400, format_errors(wanted))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["errors", "code", "message", "detail", "details", "error"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises(body: bytes) -> None:
    """Whatever was sent, the entries are clean and the refusal is one line."""
    found = parse_errors(400, body)
    error = refusal(400, found, "x")

    assert all(entry.message.isprintable() and entry.code.isprintable() for entry in found)
    assert str(error).isprintable()
    assert len(str(error)) <= TEXT_LIMIT + 40
    assert json.loads(format_errors(found))["errors"] == [] or found


@pytest.mark.parametrize(
    ("status", "codes", "expected"),
    [
        (401, [], Unauthorized),
        (401, ["MANIFEST_UNKNOWN"], Unauthorized),
        (403, ["DENIED"], Denied),
        (404, [], BlobUnknown),
        (404, ["404"], BlobUnknown),
        (404, ["UNAUTHORIZED"], BlobUnknown),
        (404, ["MANIFEST_UNKNOWN"], ManifestUnknown),
        (404, ["X", "NAME_UNKNOWN"], NameUnknown),
        (404, ["NAME_INVALID"], NameUnknown),
        (404, ["BLOB_UPLOAD_UNKNOWN"], UploadUnknown),
        (405, [], Unsupported),
        (429, [], RateLimited),
        (416, ["RANGE_INVALID"], RangeInvalid),
        (400, ["MANIFEST_INVALID"], ManifestInvalid),
        (400, ["NAME_INVALID"], NameUnknown),
        (400, ["MANIFEST_BLOB_UNKNOWN"], ManifestBlobUnknown),
        (400, ["DIGEST_INVALID"], UploadInvalid),
        (400, ["TOOMANYREQUESTS"], RateLimited),
        (400, ["UNKNOWN"], RegistryError),
        (400, [], RegistryError),
        (413, ["SIZE_INVALID"], UploadInvalid),
        (500, ["MANIFEST_UNKNOWN"], RegistryError),
        (502, [], Unavailable),
        (503, [], RegistryError),
        (503, ["UNAVAILABLE"], Unavailable),
        (504, ["UNKNOWN"], Unavailable),
    ],
)
def test_refusal_classes(status: int, codes: list[str], expected: type[RegistryError]) -> None:
    """The status decides, then the code, then what the caller says an absence means."""
    said = tuple(ErrorEntry(code) for code in codes)
    error = refusal(status, said, "x", absent=BlobUnknown)

    assert expected is type(error)
    assert (status, said) == (error.status, error.entries)


def test_absence_is_a_manifest_by_default() -> None:
    """A 404 that says nothing means that the manifest is not there."""
    assert ManifestUnknown is type(refusal(404, (), "x"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            [ErrorEntry("MANIFEST_UNKNOWN", "manifest unknown")],
            "docker.io/library/x:1: the registry says MANIFEST_UNKNOWN: manifest unknown (404)",
        ),
        ([ErrorEntry("DENIED")], "docker.io/library/x:1: the registry says DENIED (404)"),
        ([ErrorEntry("", "no")], "docker.io/library/x:1: the registry says no (404)"),
        (
            [ErrorEntry("A", "x"), ErrorEntry("B", "y")],
            "docker.io/library/x:1: the registry says A: x; B: y (404)",
        ),
        ([], "docker.io/library/x:1: the registry says 404"),
    ],
)
def test_refusal_lines(said: list[ErrorEntry], expected: str) -> None:
    """The line begins with what was asked and quotes the registry."""
    assert expected == str(refusal(404, tuple(said), "docker.io/library/x:1"))
