"""Digest, Descriptor and verify."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import ALGORITHMS, Descriptor, Digest, new_hash, verify
from cache.errors import DigestInvalid, DigestMismatch, SizeMismatch

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
algorithms = st.sampled_from(sorted(ALGORITHMS))


@given(st.binary(), algorithms)
def test_the_wire_form_reads_back(content, algorithm):
    """parse(str(d)) == d, and the hex is what hashlib says."""
    digest = Digest.of(content, algorithm)

    assert digest == Digest.parse(str(digest))
    assert f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" == str(digest)


@given(st.text())
def test_a_digest_can_always_be_a_path(text):
    """Whatever parse lets through has a known algorithm and lower-case hex of its length."""
    try:
        digest = Digest.parse(text)
    except DigestInvalid:
        return

    assert ALGORITHMS[digest.algorithm] == len(digest.hex)
    assert set(digest.hex) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "sha256",
        "sha256:",
        ":" + EMPTY,
        EMPTY,
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:{EMPTY.upper()}",
        f"SHA256:{EMPTY}",
        f"sha256:{EMPTY[:-1]}g",
        f"sha256:{EMPTY[:-1]}\n",
        f"sha256:{EMPTY}\n",
        f"sha256:{'/..' * 21}a",
        f"sha256:{'٣' * 64}",
        f"sha512:{EMPTY}",
        f"md5:{EMPTY[:32]}",
        f"sha256+b64:{EMPTY}",
    ],
)
def test_what_is_no_digest_is_refused(bad):
    """Unknown algorithms, wrong lengths, capitals, other digits, line ends and paths."""
    with pytest.raises(DigestInvalid):
        Digest.parse(bad)


def test_a_long_text_is_cut_in_the_message():
    """The line of an error stays a line, whatever a stranger sent."""
    with pytest.raises(DigestInvalid) as raised:
        Digest.parse("x" * 10_000)

    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("make", [new_hash, lambda name: Digest.of(b"", name)])
@pytest.mark.parametrize("algorithm", ["md5", "blake3", "", "sha-256"])
def test_only_known_algorithms_hash(make, algorithm):
    """A hash we do not know is DigestInvalid, whether hashlib has it or not."""
    with pytest.raises(DigestInvalid, match="not known"):
        make(algorithm)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_digest_gives_its_hasher(algorithm):
    """The hasher of a digest hashes by the same algorithm."""
    digest = Digest.of(b"abc", algorithm)
    fresh = digest.hasher()
    fresh.update(b"abc")

    assert digest.hex == fresh.hexdigest()


def test_digests_sort_and_are_keys():
    """Digests are values: equal ones are one key, and they have an order."""
    one, two = Digest("sha256", "0" * 64), Digest("sha256", "1" * 64)

    assert [one, two] == sorted({two, one, Digest.parse(str(one))})


def test_a_descriptor_is_a_value():
    """Equal descriptors are one key."""
    assert 1 == len({Descriptor.of("t", b"abc"), Descriptor("t", Digest.of(b"abc"), 3)})


def test_a_descriptor_of_another_algorithm():
    """A descriptor can be made with any algorithm we know."""
    assert "sha512" == Descriptor.of("t", b"abc", "sha512").digest.algorithm


def test_a_negative_size_is_refused():
    """No Descriptor with a negative size exists."""
    with pytest.raises(SizeMismatch, match="negative size: -1"):
        Descriptor("t", Digest.of(b""), -1)


@given(st.binary(), algorithms)
def test_the_right_content_verifies(content, algorithm):
    """With and without a size, content proves against its own digest."""
    verify(content, Digest.of(content, algorithm))
    verify(content, Digest.of(content, algorithm), len(content))


@given(st.binary(), st.binary(), algorithms)
def test_other_content_never_verifies(content, other, algorithm):
    """Bytes that differ in anything do not prove."""
    if content == other:
        return
    with pytest.raises(DigestMismatch):
        verify(other, Digest.of(content, algorithm))


@pytest.mark.parametrize("size", [0, 2, 4])
def test_a_size_that_differs_is_said_first(size):
    """Short and long content is a matter of size; the line gives both numbers."""
    with pytest.raises(SizeMismatch, match=f"3 bytes where {size} were announced"):
        verify(b"abc", Digest.of(b"abc"), size)
