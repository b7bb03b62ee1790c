"""What a node says of a job."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.jobs.errors import JobInvalid
from registryd.jobs.standing import (
    ERROR_LIMIT,
    STAGES,
    STANDING_LIMIT,
    Arrivals,
    Standing,
    latest,
    line_of,
    summed,
)

WORD = Standing("0123456789ab", "n1", at=1000.0)
standings = st.builds(
    Standing,
    job=st.from_regex("[0-9a-f]{12}", fullmatch=True),
    node=st.from_regex("[a-z0-9.:]{1,60}", fullmatch=True),
    revision=st.integers(1, 1000),
    stage=st.sampled_from(STAGES),
    here=st.integers(0, 2**62),
    total=st.integers(0, 2**62),
    blobs=st.integers(0, 1000),
    images=st.integers(0, 1000),
    error=st.text(max_size=50).map(line_of),
    seconds=st.integers(0, 10**6).map(lambda ms: ms / 1000),
    at=st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000),
)


@given(standings)
def test_what_is_written_is_read(word: Standing) -> None:
    """A record reads back as the same word."""
    assert word == Standing.decode(word.encode())


@given(st.binary(max_size=100))
def test_any_bytes(raw: bytes) -> None:
    """Whatever comes is refused as what it is."""
    with pytest.raises(JobInvalid):
        Standing.decode(raw)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"state": "lost"}, "state is 'lost'"),
        ({"node": ""}, "node is not"),
        ({"node": "a\x1b[2J"}, "node is not"),
        ({"node": "a" * 300}, "node is not"),
        ({"bytes": -1}, "bytes is not"),
        ({"bytes": 2**63}, "bytes is not"),
        ({"total": 1.5}, "total is not"),
        ({"seconds": "1"}, "seconds is not"),
        ({"at": "now"}, "at is not a time"),
        ({"error": 1}, "error must be a text"),
    ],
)
def test_what_is_refused(members: dict[str, Any], said: str) -> None:
    """Each wrong member is refused, by its name."""
    with pytest.raises(JobInvalid, match=said):
        Standing.decode(json.dumps({**WORD.as_json(), **members}).encode())


def test_what_is_too_long() -> None:
    """A record has a limit; an error is a line of bounded length, without what steers a screen."""
    long = replace(WORD, error=line_of("a\n\x1b[2J" + "ä" * 5000))

    assert long == Standing.decode(long.encode())
    assert ERROR_LIMIT == len(long.error)
    assert long.error.startswith("a ?[2J")
    assert len(replace(WORD, error="\U0001f600" * ERROR_LIMIT).encode()) < STANDING_LIMIT
    with pytest.raises(JobInvalid, match="at most"):
        Standing.decode(b" " * (STANDING_LIMIT + 1))


def test_arrivals() -> None:
    """Events of pulls come to bytes and blobs; a blob of two images is one."""
    arrivals = Arrivals()
    for event in (
        {"event": "resolved", "digest": "m"},
        {"event": "blob", "digest": "a", "size": 10, "state": "waiting"},
        {"event": "blob", "digest": "b", "size": 5, "state": "waiting"},
        {"event": "progress", "digest": "a", "offset": 4, "total": 10},
        {"event": "progress", "digest": "x", "offset": 4, "total": 10},
        {"event": "blob", "digest": "b", "size": 5, "state": "held"},
        {"event": "blob", "digest": "b", "size": 5, "state": "done"},
    ):
        arrivals.take(event)

    assert (9, 15, 1) == (arrivals.here, arrivals.total, arrivals.blobs)


def test_the_last_word_counts() -> None:
    """Of a node's words the newest revision's counts, and of those the last."""
    old = replace(WORD, stage="done", at=2000.0)
    new = replace(WORD, revision=2)
    newest = replace(new, stage="fetching", at=1001.0)

    assert {"n1": newest} == latest([newest, old, new])


def test_nodes_together() -> None:
    """Words of an older revision do not count; who is silent is one of all."""
    words = [
        replace(WORD, revision=2, stage="done", here=5, total=5),
        replace(WORD, node="n2", stage="done", here=9, total=9),
        replace(WORD, node="n3", revision=2, stage="failed", here=1, total=5),
    ]

    assert {
        "all": 4, "done": 1, "failed": 1, "fetching": 0, "cancelled": 0, "bytes": 6, "total": 10,
    } == summed(words, 2, 4)  # fmt: skip
