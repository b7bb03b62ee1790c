"""The record of a job: what is read back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from registryd.jobs.errors import JobInvalid
from registryd.jobs.record import IMAGES_LIMIT, LONGEST, RECORD_LIMIT, Image, Job
from registryd.jobs.wishes import Wish
from registryd.oci.reference import Reference
from tests.jobs.samples import DIGEST, NOW, job

tags = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,20}", fullmatch=True)
names = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){1,2}", fullmatch=True)
platforms = st.lists(
    st.sampled_from(("linux/amd64", "linux/arm64/v8", "windows/amd64")), unique=True
).map(tuple)
scopes = st.one_of(st.tuples(platforms, st.just(False)), st.just(((), True)))
images = st.builds(
    lambda name, tag, content, scope, recipe: Image(
        Reference("ghcr.io", name, tag), Digest.of(content), *scope, recipe
    ),
    names, tags, st.binary(max_size=4), scopes, st.sampled_from(("", "squashfs;zstd;plain;v=1")),
)  # fmt: skip
wishes = st.builds(
    lambda name, patterns, scope, refresh: Wish(
        Reference("ghcr.io", name), tuple(patterns), *scope, refresh
    ),
    names,
    st.lists(st.sampled_from(("*", "v1.*", "latest", "3.20")), min_size=1, max_size=3),
    scopes,
    st.integers(60, 7 * 86400).map(float),
)
times = st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)
jobs = st.builds(
    lambda id, images, nodes, created, span, revision, state, wishes: Job(
        id, tuple(images), nodes, "n1", created, round(created + span, 3), revision, state,
        tuple(wishes), (created,) * len(wishes),
    ),
    st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    st.lists(images, min_size=1, max_size=4),
    st.one_of(st.none(), st.lists(st.sampled_from(("a1", "a2", "b.example:5051")), min_size=1,
                                  unique=True).map(tuple)),
    times,
    st.integers(0, int(LONGEST)),
    st.integers(1, 1000),
    st.sampled_from(("active", "cancelled")),
    st.lists(wishes, max_size=3),
)  # fmt: skip
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(jobs)
def test_what_is_written_is_read(some: Job) -> None:
    """A record reads back as the same job."""
    assert some == Job.decode(some.encode())


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """Whatever comes, it is a job or JobInvalid."""
    with pytest.raises(JobInvalid):
        Job.decode(raw)


@given(st.data(), values)
def test_any_value_in_any_place(data: st.DataObject, value: Any) -> None:
    """A record with something else in one place is a job or JobInvalid, and nothing else."""
    wish = Wish(Reference("ghcr.io", "a/b"), ("*",))
    record = job(wishes=(wish,), resolved=(NOW,)).as_json()
    place: Any = record
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        Job.decode(json.dumps(record).encode())
    except JobInvalid as error:
        assert len(str(error)) < 1500


def changed(**members: Any) -> bytes:
    """A record with these members."""
    return json.dumps({**job().as_json(), **members}).encode()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"version": 2}, "this node reads 1"),
        ({"id": "../x"}, "twelve hex digits"),
        ({"id": "0123456789AB"}, "twelve hex digits"),
        ({"images": []}, "at least one image"),
        ({"images": [{}] * (IMAGES_LIMIT + 1)}, "too many"),
        ({"state": "done"}, "state is 'done'"),
        ({"revision": 0}, "revisions"),
        ({"revision": True}, "revision"),
        ({"until": "2027-01-01T00:00:00+00:00"}, "ends after it began"),
        ({"until": "2099-01-01T00:00:00+00:00"}, "within 30 days"),
        ({"created": "yesterday"}, "not a time of RFC 3339"),
        ({"created": "2027-01-15T08:00:00"}, "not a time of RFC 3339"),
        ({"nodes": "a["}, "host list"),
        ({"nodes": ""}, "host list"),
        ({"resolved": ["2027-01-15T08:00:00+00:00"]}, "wishes with their times"),
        ({"asked_by": {"node": "a\nb"}}, "asked_by.node"),
        ({"asked_by": "n1"}, "asked_by"),
        ({"wishes": [{}] * 200}, "too many"),
    ],
)
def test_what_is_refused(members: dict[str, Any], said: str) -> None:
    """Each wrong member is refused, by its name."""
    with pytest.raises(JobInvalid, match=said):
        Job.decode(changed(**members))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"digest": "sha256:x"}, "sha256:x"),
        ({"reference": "A b"}, "not an image reference"),
        ({"reference": f"ghcr.io/a/b@{Digest.of(b'other')}"}, "cannot be"),
        ({"platforms": ["linux/amd64"], "all_platforms": True}, "contradict"),
        ({"platforms": ["x y"]}, "x y"),
        ({"platforms": ["linux/amd64"] * 17}, "too many"),
        ({"all_platforms": 1}, "neither true nor false"),
    ],
)
def test_an_image_that_is_refused(members: dict[str, Any], said: str) -> None:
    """Each wrong member of an image is refused."""
    entry = {"reference": "ghcr.io/a/b:1", "digest": str(DIGEST), **members}

    with pytest.raises(JobInvalid, match=said):
        Job.decode(changed(images=[entry]))


def test_a_record_that_is_too_large() -> None:
    """What does not fit in a message is refused when it is written, and when it is read."""
    with pytest.raises(JobInvalid, match="make two jobs"):
        job(images=tuple(wide_images())).encode()
    with pytest.raises(JobInvalid, match="at most"):
        Job.decode(b" " * (RECORD_LIMIT + 1))


def wide_images() -> list[Image]:
    """So many images with names so long that no message holds them."""
    platforms = ("linux/arm64/v8", *(f"linux/{'a' * 60}/v{at}" for at in range(15)))
    return [
        Image(Reference("ghcr.io", f"{'a' * 200}/b", f"t{at}"), DIGEST, platforms)
        for at in range(IMAGES_LIMIT)
    ]


def test_there_is_no_secret_in_it() -> None:
    """The record has these members and no other: nowhere is there room for a credential."""
    assert {
        "version", "id", "kind", "revision", "state", "images", "nodes", "asked_by", "created",
        "until", "wishes", "resolved",
    } == job().as_json().keys()  # fmt: skip


@pytest.mark.parametrize(
    ("node", "names", "meant"),
    [
        ("a1", ("a1",), True),
        ("A1.example.org", ("a1",), True),
        ("a1.example.org", ("a1.example.org",), True),
        ("a1.example.org:5051", ("a1",), True),
        ("a1:5051", ("a1:5051",), True),
        ("a1:5051", ("a1:5052",), False),
        ("a10", ("a1",), False),
        ("10.0.0.1:5051", ("10.0.0.1",), True),
        ("10.0.0.1:5051", ("10",), False),
        ("[2001:db8::1]:5051", ("[2001:db8::1]",), True),
        ("b1.example.org", ("a1", "b1"), True),
    ],
)
def test_who_is_meant(node: str, names: tuple[str, ...], meant: bool) -> None:
    """A name means a node by its whole name, without its port, or by its first part."""
    assert meant == job(targets=names).is_for(node)
    assert job().is_for(node)


def test_when_it_runs() -> None:
    """A job runs until its time is over or it is cancelled."""
    assert job().runs(NOW + 3599)
    assert not job().runs(NOW + 3600)
    assert not job().cancelled().runs(NOW)
    assert (2, "cancelled") == (job().cancelled().revision, job().cancelled().state)
