"""Who is waited for, and how it ends."""

from __future__ import annotations

from registryd.jobs.standing import Stage, Standing
from registryd.jobs.waiting import SILENCE, Ending, Roll
from tests.jobs.samples import job


def word(node: str, stage: Stage = "fetching", **members: object) -> Standing:
    """What a node says."""
    return Standing("0123456789ab", node, stage=stage, **members)  # type: ignore[arg-type]


def roll(*alive: str, targets: tuple[str, ...] | None = None, revision: int = 1) -> Roll:
    """A roll of nodes that are there."""
    made = Roll(job(targets=targets, revision=revision), now=0.0)
    made.members(alive, 0.0)
    return made


def test_it_ends_when_all_have_settled() -> None:
    """Who has failed is waited for no more than who is done."""
    nodes = roll("n1", "n2")
    nodes.word(word("n1", "done"))
    half = nodes.over(patient=False)
    nodes.word(word("n2", "failed", error="no room"))

    assert not half
    assert nodes.over(patient=True)
    assert Ending(("n1",), (("n2", "no room"),), ()) == nodes.ending()


def test_who_is_not_there_is_named() -> None:
    """A name that nobody answers to is missing: not waited for, unless with patience."""
    nodes = roll("n1.example", "x1", targets=("n1", "n2", "n10"))
    nodes.word(word("n1.example", "done"))

    assert nodes.over(patient=False)
    assert not nodes.over(patient=True)
    assert Ending(("n1.example",), (), ("n2", "n10")) == nodes.ending()


def test_who_leaves_in_the_middle() -> None:
    """A node that has gone is missing, and is waited for again when it is back."""
    nodes = roll("n1", "n2")
    nodes.word(word("n1", "done"))
    nodes.word(word("n2"))
    nodes.members(["n1"], 1.0)
    gone = nodes.over(patient=False), nodes.missing
    nodes.members(["n1", "n2"], 2.0)

    assert (True, ["n2"]) == gone
    assert (False, []) == (nodes.over(patient=False), nodes.missing)


def test_who_was_done_is_done() -> None:
    """A node that is gone after it was done counts as done."""
    nodes = roll("n1", "n2")
    nodes.word(word("n1", "done"))
    nodes.word(word("n2", "done"))
    nodes.members([], 1.0)

    assert (True, Ending(("n1", "n2"), (), ())) == (nodes.over(patient=True), nodes.ending())


def test_who_says_nothing() -> None:
    """A node that is there and never says a word is given up after a while; one word is enough."""
    nodes = roll("n1", "n2")
    nodes.word(word("n1"))
    nodes.members(["n1", "n2"], SILENCE - 1)
    early = sorted(nodes.awaited)
    nodes.members(["n1", "n2"], SILENCE)

    assert ["n1", "n2"] == early
    assert (["n1"], ["n2"]) == (nodes.awaited, nodes.missing)


def test_who_joins_later() -> None:
    """A job for all is for who comes while it is waited for, too."""
    nodes = roll("n1")
    nodes.members(["n1", "n2"], 1.0)
    nodes.word(word("n1", "done"))

    assert ["n2"] == nodes.awaited


def test_words_that_do_not_count() -> None:
    """Words on other jobs and older revisions are no news; the same word is none either."""
    nodes = roll("n1", revision=2)

    assert not nodes.word(word("n1", "done"))
    assert not nodes.word(Standing("b" * 12, "n1", 2, "done"))
    assert nodes.word(word("n1", revision=2))
    assert not nodes.word(word("n1", revision=2))
    assert nodes.word(word("n1", "cancelled", revision=3))
    assert Ending((), (("n1", "cancelled"),), ()) == nodes.ending()


def test_all_together() -> None:
    """Bytes are summed, silent nodes need what the others need, and the rest is estimated."""
    nodes = roll("n1", "n2")
    nodes.word(word("n1", here=0, total=1000))
    first = nodes.event()
    nodes.members(["n1", "n2"], 5.0)
    nodes.word(word("n1", here=500, total=1000))
    second = nodes.event()

    assert (0, 2000, 0, None) == tuple(
        first[key] for key in ("bytes", "total", "rate", "seconds_left")
    )
    assert (500, 2000, 100, 15.0) == tuple(
        second[key] for key in ("bytes", "total", "rate", "seconds_left")
    )
