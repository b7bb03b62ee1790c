"""The rule of eviction, over stores of any shape: what goes, what never goes, and when it ends."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.bounds import Bounds
from cache.content import Digest
from cache.eviction import (
    ALONE,
    GRACE,
    LEASED,
    NEEDLESS,
    OPEN,
    PINNED,
    ROUND_TRIP,
    UNREFERENCED,
    UNUSED,
    Busy,
    Choice,
    choose,
    give_way,
)
from tests.cache import plain_eviction as plain
from tests.cache.plain_eviction import Table, chosen, numbered

NOW = 1_000_000.0
DIGESTS = [Digest.of(bytes([number])) for number in range(12)]


@st.composite
def states(draw: st.DrawFn) -> tuple[Table, Busy]:
    """Blobs in a row: the first may point to later ones, here or not, and any may have names."""
    dice = draw(st.randoms(use_true_random=True))

    def some(most: int, among: list[Digest] = DIGESTS) -> set[Digest]:
        return set(dice.sample(among, dice.randint(0, most)))

    held = some(12)
    table = Table(
        sizes={digest: dice.choice((0, 1, 50, 100)) for digest in held},
        used={digest: NOW - dice.randint(0, 6) * GRACE / 2 for digest in held},
        links={parent: list(some(4, DIGESTS[at + 1 :])) for at, parent in enumerate(DIGESTS[:5])},
        names={
            digest: (f"{dice.choice(['localhost/', 'a.io/'])}{digest.hex[:6]}",)
            for digest in some(6)
        },
        pinned=some(1),
        leased=some(1),
    )
    return table, Busy(arriving=some(1), opened=some(1), alone=("localhost/",))


wanted = st.integers(-10, 600)


def kept(table: Table, busy: Busy, choice: Choice) -> set[Digest]:
    """All that somebody needs once this has gone."""
    roots = {each.digest for each in choice.staying} | table.pinned | table.leased | busy.arriving
    return set().union(*map(table.closure, roots))


@settings(max_examples=200)
@given(states(), wanted)
def test_what_stays_is_whole(state: tuple[Table, Busy], wanted: int) -> None:
    """Nothing goes that an image which stays, a pin, a lease or an arrival needs, or that is open;
    each blob goes once; and every image either goes or stays."""
    table, busy = state
    choice = chosen(table, busy, wanted, NOW)
    gone = [digest for each in choice.going for digest in each.frees]
    images = [each.digest for each in (*choice.going, *choice.staying) if each.names]

    assert set() == set(gone) & kept(table, busy, choice)
    assert set() == set(gone) & busy.opened
    assert len(gone) == len(set(gone))
    assert sum(table.sizes[digest] for digest in gone) == choice.freed
    assert sorted(images, key=str) == sorted(table.names, key=str)


@settings(max_examples=200)
@given(states(), wanted)
def test_images_go_only_for_want_of_room(state: tuple[Table, Busy], wanted: int) -> None:
    """No image goes once there is enough; where there is not enough, whatever may go has gone;
    a name of the node's own never goes, and what has just come is left alone."""
    table, busy = state
    choice = chosen(table, busy, wanted, NOW)
    images = [each for each in choice.going if each.names]
    loose = [each for each in choice.going if not each.names]

    assert not images or choice.freed - images[-1].bytes < wanted
    assert all(each.frees for each in images)
    assert not [each for each in images if each.names[0].startswith("localhost/")]
    assert all(NOW - each.used >= GRACE and each.why == UNREFERENCED for each in loose)
    if choice.freed < wanted:
        again = chosen(
            replace(
                table,
                sizes={d: s for d, s in table.sizes.items() if d not in choice.digests},
                names={each.digest: each.names for each in choice.staying},
            ),
            busy,
            wanted,
            NOW,
        )
        assert () == again.going


@settings(max_examples=200)
@given(states())
def test_more_is_not_taken_for_less(state: tuple[Table, Busy]) -> None:
    """What goes for little goes for more too."""
    table, busy = state
    little, much = chosen(table, busy, 50, NOW), chosen(table, busy, 500, NOW)

    assert list(much.going[: len(little.going)]) == list(little.going)


@settings(max_examples=300)
@given(states(), wanted)
def test_the_quick_way_chooses_what_the_plain_way_does(
    state: tuple[Table, Busy], wanted: int
) -> None:
    """The same goes in the same order, the same stays, and for the same reasons; what stays need
    not be told."""
    table, busy = state
    expected = plain.choose(table, busy, wanted, NOW)

    assert expected == chosen(table, busy, wanted, NOW)
    assert replace(expected, staying=()) == choose(numbered(table), busy, wanted, NOW, told=False)


@settings(max_examples=300)
@given(states(), st.sets(st.sampled_from(DIGESTS)), st.sets(st.sampled_from(DIGESTS)), wanted)
def test_the_quick_way_gives_way_as_the_plain_way_does(
    state: tuple[Table, Busy], own: set[Digest], spared: set[Digest], wanted: int
) -> None:
    """Of one user's images too the same goes in the same order, and the same stays."""
    table, busy = state
    expected = plain.give_way(table, busy, own, spared, wanted)
    found = give_way(numbered(table), busy, own, spared, wanted)

    assert expected.going == found.going
    assert set(map(repr, expected.staying)) == set(map(repr, found.staying))


A, B, BASE, OWN_A, OWN_B = DIGESTS[:5]


def two() -> Table:
    """Two images on one base, A last used an hour before B."""
    held: Mapping[Digest, int] = {A: 1, B: 1, BASE: 500, OWN_A: 90, OWN_B: 90}
    return Table(
        sizes=held,
        used=dict.fromkeys(held, NOW - 7200) | {B: NOW - 3600, OWN_B: NOW - 3600, BASE: NOW},
        links={A: [BASE, OWN_A], B: [BASE, OWN_B]},
        names={A: ("a.io/a:1",), B: ("a.io/b:1", "a.io/b:2")},
    )


def reasons(choice: Choice) -> dict[Digest, str]:
    return {each.digest: each.why for each in (*choice.going, *choice.staying)}


def test_the_longest_unused_goes_with_what_is_its_own() -> None:
    """Of two images the one that was used longest ago goes, and leaves what the other needs."""
    choice = chosen(two(), Busy(), 10, NOW)

    assert [("a.io/a:1",)] == [each.names for each in choice.going]
    assert {A, OWN_A} == choice.digests
    assert {A: UNUSED, B: NEEDLESS} == reasons(choice)


def test_both_go_with_all_their_names_and_what_they_share() -> None:
    """Where one is not enough the other follows, by all its names, and then the base goes too."""
    choice = chosen(two(), Busy(), 100, NOW)

    assert [("a.io/a:1",), ("a.io/b:1", "a.io/b:2")] == [each.names for each in choice.going]
    assert 682 == choice.freed


def test_a_small_image_outlasts_a_large_one() -> None:
    """Of images as long unused the one that gives more room goes: each costs a request at least."""
    table = replace(two(), used={})
    large = replace(table, sizes={**table.sizes, OWN_B: ROUND_TRIP})

    assert [B] == [each.digest for each in chosen(large, Busy(), 10, NOW).going]


@pytest.mark.parametrize(
    ("change", "busy", "why"),
    [
        ({"pinned": {A}}, Busy(), PINNED),
        ({"leased": {A}}, Busy(), LEASED),
        ({}, Busy(arriving={OWN_A}), "arriving"),
        ({}, Busy(opened={OWN_A}), OPEN),
        ({}, Busy(alone=("a.io/a",)), ALONE),
    ],
)
def test_why_an_image_stays(change: dict[str, set[Digest]], busy: Busy, why: str) -> None:
    """An image that somebody uses stays however much is wanted, and it is said why."""
    choice = chosen(replace(two(), **change), busy, 10_000, NOW)

    assert {A: why, B: UNUSED} == reasons(choice)
    assert {B, OWN_B} == choice.digests


@pytest.mark.parametrize(
    ("used", "free", "must", "should"),
    [(90, 1000, 0, 0), (91, 1000, 0, 11), (101, 1000, 1, 21), (10, 40, 10, 10), (0, 50, 0, 0)],
)
def test_bounds(used: int, free: int, must: int, should: int) -> None:
    """Content must go beyond max_size and below min_free; from the high mark on, to the low one."""
    bounds = Bounds(max_size=100, min_free=50)

    assert (must, should) == (bounds.must(used, free), bounds.should(used, free))
    assert (0, 0) == (Bounds().must(used, -1), Bounds().should(used, -1))
