"""How many bytes a second may pass, and who of those that wait comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from registryd.rates import KEPT, LEAST_BURST, Ask, Bucket

KIB, MIB = 1 << 10, 1 << 20
LIMIT = 2 * MIB


@dataclass
class World:
    """A bucket, its time, and what has passed."""

    bucket: Bucket = field(default_factory=lambda: Bucket(LIMIT, 0.0))
    now: float = 0.0
    passed: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)

    def ask(self, key: str, count: int) -> Ask | None:
        def tell() -> None:
            self.passed[key] += count
            self.order.append(key)

        ask = self.bucket.ask(key, count, tell, self.now)
        if ask is None:
            tell()
        return ask

    def wait(self, seconds: float) -> None:
        """Let time pass, and everything happen when it is due."""
        until = self.now + seconds
        while (due := self.bucket.due(self.now)) is not None and due <= until:
            self.now = max(due, self.now)
            self.tell()
        self.now = until

    def tell(self) -> None:
        for ask in self.bucket.granted(self.now):
            ask.tell()


ASKS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(0, MIB),
        st.floats(0, 0.2, allow_nan=False, allow_infinity=False),
    ),
    max_size=60,
)


@given(ASKS)
def test_no_more_passes_than_the_limit(asks: list[tuple[str, int, float]]) -> None:
    """From any moment on: limit times time, one burst, and what was asked for last."""
    world, seen = World(), [(0.0, 0)]
    for key, count, pause in asks:
        world.ask(key, count)
        seen.append((world.now, world.passed.total()))
        world.wait(pause)
        seen.append((world.now, world.passed.total()))

    for at, (begun, before) in enumerate(seen):
        for now, total in seen[at:]:
            assert total - before <= LIMIT * (now - begun) + LEAST_BURST + MIB + 1


@given(ASKS)
def test_what_may_pass_does(asks: list[tuple[str, int, float]]) -> None:
    """Everybody's turn comes, and as early as the limit lets it: no time is given away."""
    world = World()
    for key, count, _ in asks:
        world.ask(key, count)
    wanted = sum(count for _, count, _ in asks)
    world.wait(max(0.0, wanted - LEAST_BURST) / LIMIT + 0.001)

    assert wanted == world.passed.total()
    assert world.bucket.due(world.now) is None


@given(st.lists(st.integers(8 * KIB, 64 * KIB), min_size=1, max_size=8), st.integers(1, 3))
def test_keys_share_alike(streams: list[int], seconds: int) -> None:
    """Two keys that always want more get the same, whatever either asks for at once."""
    world = World()
    world.ask("x", LEAST_BURST + 1)

    def again(key: str, count: int) -> Callable[[], None]:
        def tell() -> None:
            world.passed[key] += count
            world.bucket.ask(key, count, tell, world.now)

        return tell

    many = [("many", count) for count in streams]
    for key, count in [*many, ("one", 64 * KIB)]:
        world.bucket.ask(key, count, again(key, count), world.now)
    world.wait(float(seconds))

    apart = abs(world.passed["one"] - world.passed["many"])
    assert apart <= 64 * KIB * (len(streams) + 1)


def test_a_small_blob_passes_a_huge_one() -> None:
    """Who is new waits for one turn of each other key, not for all that these have asked for."""
    world = World()
    for _ in range(1000):
        world.ask("huge", 64 * KIB)
    world.wait(1.0)
    before = len(world.order)
    for number in range(10):
        world.ask(f"small {number}", 20 * KIB)
    world.wait(0.3)

    assert 10 == sum(key.startswith("small") for key in world.order[before : before + 12])


def test_a_huge_blob_is_not_starved_by_small_ones() -> None:
    """An endless row of new blobs, enough to take it all, leaves the old one turns of its own."""
    world = World()
    for _ in range(1000):
        world.ask("huge", 64 * KIB)
    world.wait(0.5)
    before = world.passed["huge"]
    for number in range(100):
        world.ask(f"small {number}", 64 * KIB)
        world.wait(1 / 32)  # the time in which one of them passes

    assert world.passed["huge"] - before >= 10 * 64 * KIB


def test_who_asks_no_more_is_passed_over() -> None:
    """A place that was given up is nobody's, what was granted and not used is there again."""
    world = World(Bucket(MIB, 0.0))
    world.ask("a", LEAST_BURST)
    world.ask("a", MIB)
    gone, stays = world.ask("a", MIB), world.ask("b", MIB)
    assert gone is not None and stays is not None
    world.bucket.withdraw(gone)
    world.wait(1.0)

    assert ["a", "a", "b"] == world.order
    world.bucket.withdraw(stays)  # it has been granted just now
    assert world.ask("c", 1) is None


def test_what_was_given_up_is_not_held_against_its_key() -> None:
    """A blob whose streams have all left comes back as one of many, not as the last."""
    world = World()
    world.ask("other", LEAST_BURST + 64 * KIB)
    left = [world.ask("a", 64 * KIB) for _ in range(100)]
    for _ in range(20):
        world.ask("b", 64 * KIB)
    for ask in left:
        assert ask is not None
        world.bucket.withdraw(ask)
    world.ask("a", 64 * KIB)
    world.wait(0.2)

    assert "a" in world.order[:4]


def test_nobody_overtakes_those_who_wait() -> None:
    """Who comes in the moment in which something may pass again is behind those who waited."""
    world = World()
    world.ask("x", LEAST_BURST + 1)
    world.ask("a", 64 * KIB)
    world.now += 1.0
    world.ask("b", 64 * KIB)
    world.tell()

    assert ["x", "a", "b"] == world.order


def test_a_debt_is_paid_first() -> None:
    """More than there is may be taken at once; nothing follows until the limit has caught up."""
    world = World()
    assert world.ask("a", 10 * MIB) is None
    assert world.ask("b", 1) is not None
    world.wait(4.8)
    assert ["a"] == world.order
    world.wait(0.1)
    assert ["a", "b"] == world.order


def test_the_past_was_the_old_limit_s() -> None:
    """What the time until a change has let through counts by the limit of that time."""
    world = World()
    world.ask("a", 10 * MIB)
    world.now += 5.0
    world.bucket.change(1, world.now)

    assert world.ask("b", 1) is None


def test_no_limit_is_for_all_at_once() -> None:
    """Everybody who waits when a limit is taken away goes in that moment."""
    world = World()
    for _ in range(10):
        world.ask("a", 10 * MIB)
    world.bucket.change(0, world.now)
    world.tell()

    assert 10 == len(world.order)


@given(st.integers(0, 8 * MIB))
def test_another_limit_holds_at_once(limit: int) -> None:
    """Those who wait go on by the new limit, and all at once where there is none."""
    world = World()
    world.ask("a", 2 * MIB)
    for _ in range(4):
        world.ask("a", MIB)
    world.bucket.change(limit, world.now)
    world.tell()
    world.wait(1.0)

    passed = world.passed["a"] - 2 * MIB
    if limit:
        assert passed <= limit + 2 * MIB
        assert passed >= min(4 * MIB, limit - 2 * MIB + LEAST_BURST)
    else:
        assert 4 * MIB == passed
        assert world.ask("b", 1 << 40) is None


def test_keys_are_forgotten() -> None:
    """A node that runs for years remembers the blobs that pass, not all that ever did."""
    world = World()
    for number in range(100 * KEPT):
        world.ask(f"{number}", KIB)
        world.wait(0.01)

    assert len(world.bucket._ends) <= 3 * KEPT
