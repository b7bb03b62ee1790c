"""Image references: the grammar by a table of good and bad names, and the normal form."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.oci.errors import ReferenceInvalid
from registryd.oci.reference import (
    DOCKER_HUB,
    REGISTRY_LIMIT,
    REPOSITORY_LIMIT,
    Reference,
    check_tag,
    names_registry,
)

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"
LONG = "a" * REPOSITORY_LIMIT

GOOD = [
    # what is written, registry, repository, tag, digest
    ("alpine", "docker.io", "library/alpine", None, None),
    ("alpine:3.20", "docker.io", "library/alpine", "3.20", None),
    ("docker://alpine:3.20", "docker.io", "library/alpine", "3.20", None),
    ("library/alpine", "docker.io", "library/alpine", None, None),
    ("docker.io/alpine", "docker.io", "library/alpine", None, None),
    ("index.docker.io/alpine", "docker.io", "library/alpine", None, None),
    ("registry-1.docker.io/org/app", "docker.io", "org/app", None, None),
    ("Docker.IO/org/app", "docker.io", "org/app", None, None),
    ("library", "docker.io", "library/library", None, None),
    ("org/app", "docker.io", "org/app", None, None),
    ("org/team/app/part", "docker.io", "org/team/app/part", None, None),
    ("ghcr.io/org/app:v1", "ghcr.io", "org/app", "v1", None),
    ("GHCR.io/org/app:V1", "ghcr.io", "org/app", "V1", None),
    ("quay.io/app", "quay.io", "app", None, None),
    ("localhost/x/y", "localhost", "x/y", None, None),
    ("localhost/x", "localhost", "x", None, None),
    ("localhost", "docker.io", "library/localhost", None, None),
    ("localhost:5000", "docker.io", "library/localhost", "5000", None),
    ("localhost:5000/x", "localhost:5000", "x", None, None),
    ("registry:5000/x:5000", "registry:5000", "x", "5000", None),
    ("127.0.0.1:5051/demo/app:1", "127.0.0.1:5051", "demo/app", "1", None),
    ("a.b:1/x", "a.b:1", "x", None, None),
    ("a.b:65535/x", "a.b:65535", "x", None, None),
    (f"{'a' * (REGISTRY_LIMIT - 2)}.b/x", f"{'a' * (REGISTRY_LIMIT - 2)}.b", "x", None, None),
    ("127.0.0.1/demo", "127.0.0.1", "demo", None, None),
    ("[::1]/x", "[::1]", "x", None, None),
    ("[2001:DB8::1]:5000/x:t", "[2001:db8::1]:5000", "x", "t", None),
    ("Upper/lower:t", "Upper", "lower", "t", None),
    ("xn--n3h.example/x", "xn--n3h.example", "x", None, None),
    ("a.b/x_y", "a.b", "x_y", None, None),
    ("example.com/a__b/c--d/e.f/g---h", "example.com", "a__b/c--d/e.f/g---h", None, None),
    ("app.with.dots", "docker.io", "library/app.with.dots", None, None),
    ("a.b:5", "docker.io", "library/a.b", "5", None),
    ("x/y.z", "docker.io", "x/y.z", None, None),
    ("x/localhost", "docker.io", "x/localhost", None, None),
    (f"alpine@{SHA256}", "docker.io", "library/alpine", None, SHA256),
    (f"alpine:3@{SHA256}", "docker.io", "library/alpine", "3", SHA256),
    (f"example.com:8080/x:3@{SHA512}", "example.com:8080", "x", "3", SHA512),
    (f"x:{HEX}", "docker.io", "library/x", HEX, None),
    (f"x/{HEX}", "docker.io", f"x/{HEX}", None, None),
    (HEX[1:], "docker.io", f"library/{HEX[1:]}", None, None),
    ("x:_under", "docker.io", "library/x", "_under", None),
    ("x:A.b-C_9", "docker.io", "library/x", "A.b-C_9", None),
    (f"x:{'t' * 128}", "docker.io", "library/x", "t" * 128, None),
    (f"example.com/{LONG}", "example.com", LONG, None, None),
]

BAD = [
    ("", "there is no repository name"),
    ("docker://", "there is no repository name"),
    (":tag", "there is no repository name"),
    ("@" + SHA256, "there is no repository name"),
    ("example.com/", "there is no repository name"),
    ("Alpine", "repository names are lower case"),
    ("example.com/Org/App", "repository names are lower case"),
    ("org/App", "repository names are lower case"),
    (HEX, "an image ID"),
    ("https://ghcr.io/org/app", "leave the URL's scheme out"),
    ("http://ghcr.io/org/app", "leave the URL's scheme out"),
    ("docker:///x", "not a repository name"),
    ("/x", "not a repository name"),
    ("x/", "not a repository name"),
    ("a//b", "not a repository name"),
    ("-x", "not a repository name"),
    ("x-", "not a repository name"),
    ("_x", "not a repository name"),
    ("x/.y", "not a repository name"),
    ("x/y.", "not a repository name"),
    ("x..y", "not a repository name"),
    ("x___y", "not a repository name"),
    ("x._y", "not a repository name"),
    ("x-_y", "not a repository name"),
    ("../x", "is not a registry"),
    ("x/..", "not a repository name"),
    ("x y", "not a repository name"),
    (" x", "not a repository name"),
    ("x\n", "not a repository name"),
    ("é", "not a repository name"),
    ("x\u0661", "not a repository name"),
    (f"example.com/{LONG}a", "256 characters"),
    (LONG, "263 characters"),
    ("x:", "no tag after the colon"),
    ("x:.t", "is not a tag"),
    ("x:-t", "is not a tag"),
    ("x:t/u", "is not a registry"),
    ("x:t:u", "not a repository name"),
    ("x:a b", "is not a tag"),
    ("x:t\n", "is not a tag"),
    ("x:\u0661", "is not a tag"),
    (f"x:{'t' * 129}", "is not a tag"),
    ("x@", "is not a digest"),
    ("x@latest", "is not a digest"),
    (f"x@{SHA256}:t", "64 lower-case hex digits"),
    (f"x@{SHA256[:-1]}", "64 lower-case hex digits"),
    (f"x@{SHA256.upper()}", "is unknown"),
    (f"x@sha384:{HEX}", "is unknown"),
    (f"x@{SHA256}@{SHA256}", "64 lower-case hex digits"),
    ("-a.b/x", "is not a registry"),
    ("a.b-/x", "is not a registry"),
    ("a..b/x", "is not a registry"),
    (".b/x", "is not a registry"),
    ("a_b.c/x", "is not a registry"),
    ("a.b:/x", "is not a registry"),
    ("a.b:port/x", "is not a registry"),
    ("a.b:0/x", "is not a registry"),
    ("a.b:65536/x", "is not a registry"),
    ("a.b:5000:5000/x", "is not a registry"),
    ("user@a.b/x", "is not a digest"),
    ("[::1/x", "is not a registry"),
    ("[::g]/x", "is not a registry"),
    ("::1/x", "is not a registry"),
    (f"{'a' * (REGISTRY_LIMIT - 1)}.b/x", "is not a registry"),
]


@pytest.mark.parametrize(("text", "registry", "repository", "tag", "digest"), GOOD)
def test_good_references(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    """Every form of the grammar is read into its normal form."""
    expected = Reference(registry, repository, tag, Digest.parse(digest) if digest else None)

    assert expected == Reference.parse(text, default_tag=None)
    assert (registry, repository) == (expected.registry, expected.repository)


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_bad_references(text: str, reason: str) -> None:
    """What is not a reference is refused with a line that says what is wrong with it."""
    with pytest.raises(ReferenceInvalid, match=re.escape(reason)) as caught:
        Reference.parse(text)

    assert (
        f"{text!r} is not an image reference"[:300]
        == str(caught.value)[:300][: len(f"{text!r} is not an image reference")]
    )


def test_the_line_for_an_upper_case_name() -> None:
    """The most frequent mistake has the clearest line."""
    with pytest.raises(ReferenceInvalid) as caught:
        Reference.parse("Alpine")

    expected = "'Alpine' is not an image reference: repository names are lower case"
    assert expected == str(caught.value)


def test_a_huge_text_makes_a_short_line() -> None:
    """An error line stays readable whatever was given."""
    with pytest.raises(ReferenceInvalid) as caught:
        Reference.parse("A" * 100_000)

    assert len(str(caught.value)) < 1000


def test_default_tag() -> None:
    """The default tag is taken when there is neither tag nor digest, and only then."""
    tags = [Reference.parse(text).tag for text in ("x", "x:1", f"x@{SHA256}")]

    assert tags == ["latest", "1", None]
    assert Reference.parse("x", default_tag="main").tag == "main"


@pytest.mark.parametrize(
    ("registry", "repository", "tag"),
    [
        ("ghcr.io", "", None),
        ("ghcr.io", "Org/app", None),
        ("ghcr.io", "org/app", ""),
        ("ghcr.io", "org/app", ".x"),
        ("", "org/app", None),
        ("https://ghcr.io", "org/app", None),
        ("plain", "org/app", None),
        ("docker.io", LONG, None),
    ],
)
def test_an_invalid_reference_cannot_be_made(
    registry: str, repository: str, tag: str | None
) -> None:
    """The constructor checks what the parser checks."""
    with pytest.raises(ReferenceInvalid):
        Reference(registry, repository, tag)


def test_the_constructor_normalises() -> None:
    """However a reference to Docker Hub is made, it is the same value."""
    expected = Reference.parse("alpine:3")

    assert expected == Reference("docker.io", "alpine", "3")
    assert expected == Reference("index.docker.io", "library/alpine", "3")
    assert expected == Reference.of("registry-1.docker.io", "alpine", "3")


def test_of_a_url() -> None:
    """The last part of a manifest URL is a digest when it has a colon, else a tag."""
    by_digest = Reference.of("ghcr.io", "org/app", SHA512)

    assert Reference("ghcr.io", "org/app", None, Digest.parse(SHA512)) == by_digest
    assert Reference("ghcr.io", "org/app", "v1") == Reference.of("ghcr.io", "org/app", "v1")
    with pytest.raises(DigestInvalid):
        Reference.of("ghcr.io", "org/app", "sha256:x")
    with pytest.raises(ReferenceInvalid):
        Reference.of("ghcr.io", "org/app", "-x")


def test_parts() -> None:
    """Name and target are what URLs are made of; a digest decides."""
    both = Reference.parse(f"alpine:3@{SHA256}")

    assert both.name == "docker.io/library/alpine"
    assert both.target == SHA256
    assert both.with_tag("4").target == "4"
    assert both.with_tag("4").digest is None
    assert both.with_digest(Digest.parse(SHA512)).tag is None
    assert both.with_digest(Digest.parse(SHA512)).target == SHA512
    assert both.bare().target == ""
    assert f"docker.io/library/alpine:3@{SHA256}" == str(both)
    assert str(both.bare()) == "docker.io/library/alpine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io/library/alpine:3.20", "alpine:3.20"),
        (f"docker.io/library/alpine@{SHA256}", f"alpine@{SHA256}"),
        ("docker.io/org/app:1", "org/app:1"),
        ("docker.io/library/a/b", "library/a/b"),
        ("ghcr.io/library/app", "ghcr.io/library/app"),
        ("docker.io/localhost/app", "docker.io/localhost/app"),
        ("docker.io/a.b/app", "docker.io/a.b/app"),
        (f"docker.io/library/{HEX}", f"library/{HEX}"),
        ("docker.io/library/localhost:5000", "localhost:5000"),
    ],
)
def test_familiar(text: str, expected: str) -> None:
    """The short form is only used where it still means the same."""
    assert expected == Reference.parse(text, default_tag=None).familiar()


def test_which_components_name_a_registry() -> None:
    """A dot, a colon, an upper-case letter, or localhost."""
    named = [
        text for text in ("a.b", "a:1", "Abc", "localhost", "abc", "a-b") if names_registry(text)
    ]

    assert named == ["a.b", "a:1", "Abc", "localhost"]


def test_check_tag() -> None:
    """A tag alone is checked by the same rule."""
    check_tag("3.20")

    with pytest.raises(ReferenceInvalid, match="is not a tag"):
        check_tag("a/b")


ALNUM = string.ascii_lowercase + string.digits
words = st.text(ALNUM, min_size=1, max_size=6)
separators = st.sampled_from([".", "_", "__", "-", "--"])
components = st.builds(lambda a, s, b: a + s + b, words, separators, words) | words
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
hosts = st.sampled_from(
    ["docker.io", "index.docker.io", "localhost", "127.0.0.1", "[::1]", "Upper", "a.b-c.D"]
)
ports = st.just("") | st.integers(1, 65535).map(lambda port: f":{port}")
registries = st.builds(str.__add__, hosts, ports)
tags = st.none() | st.from_regex(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"), fullmatch=True)
digests = st.none() | st.binary(max_size=4).map(Digest.of)
references = st.builds(Reference, registries, repositories, tags, digests)


@given(references)
def test_round_trip(reference: Reference) -> None:
    """Every reference is read back from its text and from its familiar form as it was."""
    assert reference == Reference.parse(str(reference), default_tag=None)
    assert reference == Reference.parse(reference.familiar(), default_tag=None)
    assert len(reference.familiar()) <= len(str(reference))


@given(st.text(st.sampled_from("aA0._-/:@[]\n é"), max_size=24))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    """No text is read into something that its own form does not mean."""
    try:
        reference = Reference.parse(text)
    except ReferenceInvalid:
        return

    assert reference == Reference.parse(str(reference))
    assert reference.registry == DOCKER_HUB or names_registry(reference.registry)
