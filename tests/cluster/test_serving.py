"""Serving: slots, redirects to nodes that have the chunk, a short queue, and no circles."""

from registryd.cluster.serving import (
    DEADLINE,
    PATIENCE,
    Queue,
    Redirect,
    Refuse,
    Request,
    Serve,
    Serving,
)

MEMBERS = {"me", "a", "b", "c", "d", "e"}


def ask(asker: str, chunk: int = 0, **more: int) -> Request:
    return Request(asker, 1, chunk, **more)


def test_serves_while_there_are_slots_then_redirects_to_whom_it_served() -> None:
    """The second asker is sent to the first one, who has room by its own words."""
    serving = Serving("me", MEMBERS, slots=1)

    assert Serve() == serving.ask(ask("a", free=2), None, 0.0)
    assert Redirect("a") == serving.ask(ask("b"), None, 0.0)
    assert Redirect("a") == serving.ask(ask("c"), None, 0.0)
    assert Queue(DEADLINE) == serving.ask(ask("d"), None, 0.0)


def test_nobody_is_sent_to_the_dead_or_to_another_chunk() -> None:
    """A child that is no member any more, or has another chunk, is not named."""
    members = set(MEMBERS)
    serving = Serving("me", members, slots=1, queued=0)
    serving.ask(ask("a", free=9), None, 0.0)

    assert Refuse() == serving.ask(ask("b", 1), None, 0.0)
    members.remove("a")
    assert Refuse() == serving.ask(ask("b", 0), None, 0.0)


def test_a_slot_goes_to_the_queue_relays_first() -> None:
    """Whoever others wait for is served before an earlier leaf."""
    serving = Serving("me", MEMBERS, slots=1)
    serving.ask(ask("a"), None, 0.0)
    leaf, relay = ask("b"), Request("c", 1, 0, relay=True)
    serving.ask(leaf, None, 0.0)
    serving.ask(relay, None, 0.0)

    assert [(relay, Serve())] == serving.ended(1.0)
    assert [(leaf, Serve())] == serving.ended(2.0)
    assert [] == serving.ended(3.0)
    assert 0 == serving.used


def test_the_queue_has_a_deadline() -> None:
    """Who waited too long is sent to a node that has the chunk."""
    serving = Serving("me", MEMBERS, slots=1)
    serving.ask(ask("a"), None, 0.0)
    serving.ask(ask("b"), None, 0.0)

    assert [] == serving.passed(DEADLINE - 0.1)
    assert [(ask("b"), Redirect("a"))] == serving.passed(DEADLINE)


def test_waits_for_a_chunk_that_is_to_come() -> None:
    """An asker waits until the first bytes are here, and no longer than its patience."""
    serving = Serving("me", MEMBERS)

    assert Queue(PATIENCE) == serving.ask(ask("a"), 0, 0.0)
    assert [(ask("a"), Serve())] == serving.here(1, 0, 1.0)
    serving.ask(ask("b", 1), 0, 1.0)
    assert [(ask("b", 1), Refuse())] == serving.lost(1, 1)
    serving.ask(ask("b", 2), 0, 1.0)
    assert [(ask("b", 2), Refuse())] == serving.passed(1.0 + PATIENCE)


def test_the_sender_is_ahead_of_the_asker() -> None:
    """Whoever has as much of the chunk as we do is refused: no circle can form."""
    serving = Serving("me", MEMBERS)

    assert Refuse() == serving.ask(ask("a", offset=100), 100, 0.0)
    assert Refuse() == serving.ask(ask("a", offset=100), 0, 0.0)
    assert Serve() == serving.ask(ask("a", offset=99), 100, 0.0)


def test_a_near_child_is_preferred() -> None:
    """Among those who have the chunk, one in the asker's zone is named."""
    zones = {"a": "east", "b": "west", "c": "west"}
    serving = Serving("me", MEMBERS, slots=2, zones=zones)
    serving.ask(ask("a", free=9), None, 0.0)
    serving.ask(ask("b", free=1), None, 0.0)

    assert Redirect("b") == serving.ask(ask("c"), None, 0.0)


def test_who_hangs_up_leaves_the_queue() -> None:
    """Its place is given to nobody."""
    serving = Serving("me", MEMBERS, slots=1)
    serving.ask(ask("a"), None, 0.0)
    serving.ask(ask("b"), None, 0.0)
    serving.withdrawn("b", 1, 0)

    assert [] == serving.ended(1.0)
    assert None is serving.due()


def test_who_waits_because_we_owe_it_is_refused_when_we_are_barred() -> None:
    """At once; others wait on, and other blobs are not touched."""
    serving = Serving("me", {"a", "b", "c"})
    owed, other = Request("a", 1, 0, owed=True), Request("b", 1, 0)
    elsewhere = Request("c", 2, 0, owed=True)
    for request in (owed, other, elsewhere):
        assert isinstance(serving.ask(request, 0, 0.0), Queue)

    assert [(owed, Refuse())] == serving.barred(1)
    assert [(other, Serve())] == serving.here(1, 0, 1.0)
    assert [(elsewhere, Serve())] == serving.here(2, 0, 1.0)


def test_whoever_was_sent_here_does_not_wait_long_for_a_chunk() -> None:
    """Two may have been sent to each other: only those to whom we owe it wait for longer."""
    serving = Serving("me", MEMBERS)

    assert Queue(DEADLINE) == serving.ask(Request("a", 1, 0, hops=1), 0, 0.0)
    assert Queue(PATIENCE) == serving.ask(Request("b", 1, 0, hops=1, owed=True), 0, 0.0)
    assert Queue(PATIENCE) == serving.ask(Request("c", 1, 0), 0, 0.0)
