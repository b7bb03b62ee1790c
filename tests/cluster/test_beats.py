"""Beats as JSON: what was said is heard, and what makes no sense is no beat."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.cluster.beats import BEAT_LIMIT, Beat, BeatInvalid, Kind

GOOD: dict[str, Any] = {
    "kind": "beat", "name": "n1", "url": "https://n1:5051", "run": "abc", "every": 2.0,
    "zone": "r1", "version": "1.0", "load": 3, "free": 1 << 40,
}  # fmt: skip
COUNT = st.integers(0, (1 << 63) - 1)
TEXT = st.text("abc-_. 09é", max_size=63)


@given(
    beat=st.builds(
        Beat,
        name=st.sampled_from(["n1", "a.example.org", "10.0.0.1", "fd00::1"]),
        url=st.sampled_from(["https://n1:5051", "https://[fd00::1]:1", "https://10.0.0.1:65535"]),
        run=TEXT,
        every=st.floats(0.001, 3600),
        zone=TEXT,
        version=TEXT,
        load=COUNT,
        free=st.none() | COUNT,
        kind=st.sampled_from(Kind),
    )
)
def test_what_is_said_is_heard(beat: Beat) -> None:
    """A beat that is sent is the beat that arrives."""
    assert beat == Beat.parse(beat.encode())


def test_no_time_of_day() -> None:
    """A beat has these keys and no other: none is a time, so no clock can be wrong."""
    assert set(GOOD) == set(json.loads(Beat.parse(json.dumps(GOOD).encode()).encode()))


def test_a_newer_node_may_say_more() -> None:
    """What is not known is left alone, what may be left out is left out."""
    beat = Beat.parse(json.dumps({**GOOD, "colour": ["red"]}).encode())
    short = Beat.parse(json.dumps({key: GOOD[key] for key in list(GOOD)[:5]}).encode())

    assert ("n1", 3, "r1") == (beat.name, beat.load, beat.zone)
    assert ("n1", 0, None, "") == (short.name, short.load, short.free, short.zone)


WRONG: list[tuple[str, Any]] = [
    ("kind", "cough"), ("kind", None), ("kind", ["beat"]),
    ("name", ""), ("name", "N1"), ("name", "n1:5051"), ("name", "a b"), ("name", None),
    ("name", "n" * 300), ("name", "*.x"), ("name", "n1\n"),
    ("url", "http://n1:5051"), ("url", "https://n1"), ("url", "https://n1:5051/"),
    ("url", "https://u@n1:5051"), ("url", "https://n1:5051?x"), ("url", "https://n1:99999"),
    ("url", "https://:5051"), ("url", "https://n1:5051\n"), ("url", "https://[x]:1"), ("url", 5),
    ("url", "https://" + "n" * 300 + ":1"), ("url", "https://n1:0"),
    ("run", 5), ("run", "x" * 64),
    ("every", 0), ("every", -1), ("every", 1e9), ("every", "2"), ("every", None), ("every", True),
    ("zone", "a\nb"), ("zone", "z" * 64), ("zone", None), ("version", ["1"]),
    ("load", -1), ("load", 1.5), ("load", "3"), ("load", True), ("free", -5), ("free", 1 << 80),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_nonsense_in_one_place(key: str, value: Any) -> None:
    """A beat whose one value makes no sense is none, and the error names what is wrong."""
    with pytest.raises(BeatInvalid) as error:
        Beat.parse(json.dumps({**GOOD, key: value}).encode())

    assert key in str(error.value)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 4000, b'{"a":' * 600, b" " * BEAT_LIMIT],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_beat_at_all(raw: bytes) -> None:
    """Bytes that are no object, or too many, are no beat."""
    with pytest.raises(BeatInvalid):
        Beat.parse(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(changed=st.dictionaries(st.sampled_from(list(GOOD)), JSON, max_size=4))
def test_any_object_is_a_beat_or_refused(changed: dict[str, Any]) -> None:
    """Whatever is sent, the answer is a beat that can be sent on, or the one error."""
    try:
        beat = Beat.parse(json.dumps({**GOOD, **changed}).encode())
    except BeatInvalid:
        return

    assert beat == Beat.parse(beat.encode())
