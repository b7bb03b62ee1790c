"""The account of a store, over stores of any shape: what adds up, and what is an image's own."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from cache.content import Digest
from cache.eviction import Busy
from cache.shares import Share, count
from tests.cache.plain_eviction import Table, chosen, numbered
from tests.cache.test_eviction import NOW, states

DIGESTS = [Digest.of(bytes([number])) for number in range(12)]


def held(table: Table, *roots: Digest) -> set[Digest]:
    """What is here of all that these need."""
    return set().union(*(table.closure(root) for root in roots)) & table.sizes.keys()


def weight(table: Table, digests: set[Digest]) -> int:
    return sum(table.sizes[digest] for digest in digests)


@settings(max_examples=100)
@given(states(), st.randoms(use_true_random=True))
def test_all_that_is_here_counts_once(state: tuple[Table, Busy], dice: Random) -> None:
    """Whichever images are shown: unique, shared, spare and other are all of it; images as if each
    were alone are what they take together and what sharing saves; what may go is at least
    what goes when everything is wanted, and nothing that somebody keeps."""
    table, busy = state
    shown = set(dice.sample(sorted(table.names, key=str), dice.randint(0, len(table.names))))
    found = count(numbered(table), busy, shown, NOW)

    assert weight(table, set(table.sizes)) == sum(
        (found.unique, found.shared, found.spare, found.other)
    )
    assert weight(table, held(table, *shown)) == found.unique + found.shared
    assert sum(image.size for image in found.images.values()) == (
        found.unique + found.shared + found.saved
    )
    assert weight(table, set(table.sizes) - held(
        table, *table.names, *table.pinned, *table.leased)) == found.spare  # fmt: skip
    assert shown == found.images.keys()
    gone = chosen(table, busy, 10**6, NOW).freed
    kept = held(table, *table.pinned, *table.leased)
    assert gone <= found.leaving <= weight(table, table.sizes.keys() - kept)


@settings(max_examples=100)
@given(states())
def test_an_images_own_is_what_goes_with_it(state: tuple[Table, Busy]) -> None:
    """What is an image's own is exactly what is needed no more once it alone is not there."""
    table, busy = state
    found = count(numbered(table), busy, table.names, NOW)

    for image, share in found.images.items():
        others = held(table, *(each for each in table.names if each != image))
        mine = held(table, image)
        assert Share(weight(table, mine), weight(table, mine - others)) == share


def test_what_was_made_counts_with_its_image() -> None:
    """A file that was made of an image is part of it, and told apart; one of an image that is not
    shown is not."""
    image, made, blob, layer, other, theirs = DIGESTS[:6]
    table = Table(
        sizes={image: 1, made: 2, blob: 40, layer: 100, other: 3, theirs: 5},
        used={},
        links={image: [layer, made], made: [blob], other: [theirs]},
        names={image: ("a",), other: ("b",)},
        made=frozenset({made, theirs}),
    )
    found = count(numbered(table), Busy(), {image}, NOW)

    assert {image: Share(143, 143)} == found.images
    assert (42, 0, 8) == (found.made, found.spare, found.other)
    assert 47 == count(numbered(replace(table)), Busy(), {image, other}, NOW).made
