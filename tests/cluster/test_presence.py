"""Who is there, by what is heard and when: silence, hellos, names that two nodes claim."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from registryd.cluster.beats import Beat, Kind
from registryd.cluster.members import Facts, Members
from registryd.cluster.presence import MISSED, RATE, Presence, Timing
from registryd.cluster_ports import ClusterNode
from tests.contract.cluster import Watcher

ME = ClusterNode("n0", "https://n0:5051", "r0")
BEAT = Timing().beat
KEEP = Timing().keep


def beat(name: str, kind: Kind = Kind.BEAT, **more: Any) -> bytes:
    """What a node of this name sends."""
    said: dict[str, Any] = {"url": f"https://{name}:5051", "run": f"run-{name}", "every": BEAT}
    return Beat(name=name, kind=kind, **{**said, **more}).encode()


@dataclass
class Room:
    """n0 in a room: a clock, who speaks in it, and who has joined and left."""

    now: float = 1000.0
    watcher: Watcher = field(default_factory=Watcher)
    speaking: set[str] = field(default_factory=lambda: {"n0"})

    def __post_init__(self) -> None:
        self.presence = Presence(ME, run="run-n0", members=Members("n0"), now=self.now)
        self.presence.members.watch(self.watcher.joined, self.watcher.left)

    @property
    def names(self) -> list[str]:
        """Who is a member."""
        return [node.name for node in self.presence.members.all()]

    def hear(self, raw: bytes) -> bool:
        """Something is sent."""
        return self.presence.hear(raw, self.now)

    def passes(self, seconds: float) -> None:
        """Time passes; who speaks says a word in each interval, and n0 looks around."""
        end = self.now + seconds
        while self.now + BEAT <= end:
            self.now += BEAT
            for name in sorted(self.speaking):
                self.hear(beat(name))
            self.presence.look(self.now)
        self.now = end
        self.presence.look(self.now)


@pytest.fixture
def room() -> Room:
    return Room()


def test_alone_at_first(room: Room) -> None:
    """Before anybody is heard, this node is the cluster."""
    room.passes(100)

    assert ["n0"] == room.names
    assert [] == room.watcher.told


def test_who_speaks_is_there(room: Room) -> None:
    """A beat makes a member, with what it tells of itself; more beats make no more of it."""
    for load in (1, 2):
        room.hear(beat("n1", zone="r1", version="1.2", load=load, free=7))
    shown = room.presence.nodes(Facts(5, 6, "9"), room.now + 1.5)

    assert [("joined", "n1")] == room.watcher.told
    assert (
        ClusterNode("n0", "https://n0:5051", "r0", "9", 5, 6, 0.0),
        ClusterNode("n1", "https://n1:5051", "r1", "1.2", 2, 7, 1.5),
    ) == shown


def test_who_is_silent_is_gone(room: Room) -> None:
    """After three missed beats, and a little for a late one, a member has left; not before."""
    room.speaking |= {"n1", "n2"}
    room.passes(10)
    room.speaking.remove("n1")
    room.passes(3 * BEAT)
    still = room.names
    room.passes(BEAT)

    assert ["n0", "n1", "n2"] == still
    assert ["n0", "n2"] == room.names
    assert ("left", "n1") == room.watcher.told[-1]


def test_each_member_has_its_own_interval(room: Room) -> None:
    """One that said it beats rarely is waited for as much longer."""
    room.hear(beat("n1", every=10 * BEAT))
    room.passes(30 * BEAT)
    still = room.names
    room.passes(4 * BEAT)

    assert (["n0", "n1"], ["n0"]) == (still, room.names)


def test_who_says_bye_is_gone_at_once(room: Room) -> None:
    """An orderly leave needs no time; said of a run that is over, it means nothing."""
    room.hear(beat("n1"))
    room.hear(beat("n1", Kind.BYE, run="another"))
    still = room.names
    asked = room.hear(beat("n1", Kind.BYE))
    room.hear(beat("n2", Kind.BYE))

    assert (["n0", "n1"], ["n0"], False) == (still, room.names, asked)


def test_silence_of_all_is_nobody_s_leave(room: Room) -> None:
    """While nothing at all is heard, not even this node itself, NATS is away and nobody left."""
    room.speaking |= {"n1", "n2"}
    room.passes(10)
    room.speaking.clear()
    room.passes(KEEP - 10)
    still = room.names
    room.passes(20)

    assert (["n0", "n1", "n2"], ["n0"]) == (still, room.names)


@pytest.mark.parametrize("announced", [True, False])
def test_after_a_silence_everyone_has_time(room: Room, *, announced: bool) -> None:
    """When beats come again, those who were known have as long as ever, and no longer."""
    room.speaking |= {"n1", "n2"}
    room.passes(10)
    room.speaking.clear()
    room.passes(100)
    room.speaking |= {"n0", "n2"}
    if announced:
        room.presence.connected(room.now)
    room.passes(3 * BEAT)
    still = room.names
    room.passes(2 * BEAT)

    assert (["n0", "n1", "n2"], ["n0", "n2"]) == (still, room.names)
    assert [("left", "n1")] == room.watcher.told[2:]


def test_a_new_connection_gives_everyone_time(room: Room) -> None:
    """However short the time without NATS was: what was said in it is not counted as missed."""
    room.speaking |= {"n1"}
    room.passes(10)
    room.now += 1.9 * BEAT
    room.presence.connected(room.now)
    room.hear(beat("n0"))
    room.speaking.remove("n1")
    room.passes(3 * BEAT)
    still = room.names
    room.passes(BEAT)

    assert (["n0", "n1"], ["n0"]) == (still, room.names)


def test_a_stalled_node_blames_nobody(room: Room) -> None:
    """A process that was held up for a minute looks before it has heard: nobody has left."""
    room.speaking |= {"n1"}
    room.passes(10)
    room.now += 60
    room.presence.look(room.now)
    room.hear(beat("n0"))
    room.presence.look(room.now)

    assert ["n0", "n1"] == room.names


def test_a_hello_asks_for_an_answer(room: Room) -> None:
    """It makes a member and wants a beat; a beat, a bye and our own hello want none."""
    asked = [room.hear(beat("n1", kind)) for kind in (Kind.HELLO, Kind.BEAT, Kind.BYE)]

    assert [True, False, False] == asked
    assert not room.hear(beat("n0", Kind.HELLO))


def test_a_restart_is_no_leave(room: Room) -> None:
    """Another process of the same name at the same place takes over at once."""
    room.hear(beat("n1"))
    room.hear(beat("n1", Kind.HELLO, run="next", load=4))
    room.hear(beat("n1", Kind.BYE))

    assert [("joined", "n1")] == room.watcher.told
    assert 4 == room.presence.nodes(Facts(), room.now)[1].load


def test_the_first_has_the_name(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """A second node with the name of one that is heard is ignored, and named once in the log."""
    room.hear(beat("n1"))
    for _ in range(3):
        room.hear(beat("n1", url="https://n9:5051", run="other"))
    node = room.presence.members.find("n1")

    assert node is not None
    assert ("https://n1:5051", 3) == (node.url, room.presence.ignored)
    assert 1 == len(caplog.messages)
    assert "n1: the one at https://n1:5051 was heard first, not the one at https" in caplog.text


def test_a_name_is_free_when_its_node_is_silent(room: Room) -> None:
    """A node that comes back at another place is a new one, as soon as the old one is gone."""
    room.hear(beat("n1"))
    moved = beat("n1", url="https://n9:5051", run="other")
    room.now += MISSED * BEAT + 0.1
    room.hear(moved)
    node = room.presence.members.find("n1")

    assert node is not None
    assert "https://n9:5051" == node.url
    assert [("joined", "n1"), ("left", "n1"), ("joined", "n1")] == room.watcher.told


def test_our_own_name_from_elsewhere(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that was copied to a second node is told in the log, once."""
    for _ in range(2):
        room.hear(beat("n0", url="https://n9:5051", run="other"))

    assert ["n0"] == room.names
    assert 1 == len(caplog.messages)
    assert "each needs a certificate of its own" in caplog.text


def test_nonsense_is_counted(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """What is no beat changes nothing, is counted, and is logged once for each kind of it."""
    caplog.set_level(logging.WARNING)
    for raw in (b"", b"{", b"[]", beat("n1").replace(b"https", b"ftp")) * 2:
        room.hear(raw)

    assert (["n0"], 8, 0) == (room.names, room.presence.ignored, room.presence.taken)
    assert 3 == len(caplog.messages)


def test_beats_are_rarer_in_large_clusters(room: Room) -> None:
    """However many they are, a node takes in about the same number of beats a second."""
    small = room.presence.every
    for number in range(1, 1000):
        room.hear(beat(f"n{number}"))
    every = room.presence.every

    assert (BEAT, 1000 / RATE) == (small, every)
    assert every == room.presence.beat(Kind.BEAT, Facts()).every
    assert 0.9 * every <= room.presence.pause(0.999) < room.presence.pause(0.0) == every
    assert 2.0 == room.presence.answer_within(1.0)


def test_what_this_node_says(room: Room) -> None:
    """Its name, place and zone, and what it knows of itself at that moment."""
    said = room.presence.beat(Kind.HELLO, Facts(3, 4, "5"))

    assert Beat("n0", "https://n0:5051", "run-n0", BEAT, "r0", "5", 3, 4, Kind.HELLO) == Beat.parse(
        said.encode()
    )
