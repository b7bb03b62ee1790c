"""Fetching: every chunk arrives if some source lives; nothing is asked twice without a count."""

from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.fetching import Ask, AskUpstream, Drop, Fetching, Limits
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import PASSED_OVER, Failure, Peers
from registryd.cluster.placement import Placement

BLOB = 42


def fetching(
    me: str = "n0", nodes: int = 4, chunks: int = 4, **more: tuple[str, ...] | Limits
) -> Fetching:
    names = [f"n{index}" for index in range(nodes)]
    return Fetching(BLOB, Geometry(chunks * 10, 10), Placement(names), Peers(me), **more)


def owner_of(chunk: int, nodes: int = 4) -> str:
    return Placement(f"n{index}" for index in range(nodes)).ranked(BLOB, chunk, 1)[0]


def test_owner_asks_upstream_and_others_ask_the_owner() -> None:
    """Over all nodes each chunk is asked of upstream once, by its owner."""
    asked = {}
    for me in ("n0", "n1", "n2", "n3"):
        for step in fetching(me).steps(0.0):
            if isinstance(step, AskUpstream):
                asked[step.chunk] = me
            else:
                assert isinstance(step, Ask)
                assert owner_of(step.chunk) == step.node

    assert {chunk: owner_of(chunk) for chunk in range(4)} == asked


def alien(chunks: int = 40) -> int:
    """A chunk that n0 neither owns nor stands in for."""
    placement = Placement(f"n{index}" for index in range(4))
    return next(c for c in range(chunks) if "n0" == placement.ranked(BLOB, c, 4)[3])


def test_next_in_rank_when_the_owner_is_gone_and_upstream_in_the_end() -> None:
    """The one in its place is told that it must get the chunk; the last resort is counted."""
    fetch, chunk = fetching(chunks=40, wants=()), alien()
    ranking = Placement(f"n{index}" for index in range(4)).ranked(BLOB, chunk, 3)
    fetch.demand(chunk, 0.0, owed=True)
    for now in (0.0, PASSED_OVER):
        fetch.passed(now)
        for node in ranking:
            assert [Ask(chunk, node, owed=True)] == fetch.steps(now)
            fetch.failed(chunk, node, Failure.GONE, now)
        if not now:
            assert [] == fetch.steps(now)

    assert [AskUpstream(chunk)] == fetch.steps(PASSED_OVER)
    assert {"no peer left": 1} == dict(fetch.counts.double)


def test_redirects_are_followed_but_not_in_a_loop() -> None:
    """A 307 to someone new is followed; one to a node asked before is not."""
    fetch, chunk = fetching(chunks=40, wants=()), alien()
    first, second, *_ = Placement(f"n{index}" for index in range(4)).ranked(BLOB, chunk, 3)
    fetch.demand(chunk, 0.0, owed=True)
    fetch.steps(0.0)
    fetch.redirected(chunk, first, second, 0.0)

    assert [Ask(chunk, second, hops=1)] == fetch.steps(0.0)
    fetch.redirected(chunk, second, first, 0.0)
    assert first not in [step.node for step in fetch.steps(0.0) if isinstance(step, Ask)]


def test_a_liar_is_named_and_never_asked_again() -> None:
    """Wrong bytes of one sender name it; the chunk is asked elsewhere from its start."""
    fetch, chunk = fetching(chunks=40, wants=()), alien()
    fetch.demand(chunk, 0.0, owed=True)
    (step,) = fetch.steps(0.0)
    assert isinstance(step, Ask)
    fetch.failed(chunk, step.node, Failure.WRONG, 0.0)
    fetch.passed(60.0)
    (other,) = fetch.steps(60.0)

    assert {step.node} == fetch.peers.liars
    assert isinstance(other, Ask)
    assert step.node != other.node


def test_a_stalled_source_is_left_where_it_stopped() -> None:
    """The next request begins at the byte that was reached."""
    fetch, chunk = fetching(chunks=40, wants=()), alien()
    fetch.demand(chunk, 0.0, owed=True)
    (step,) = fetch.steps(0.0)
    assert isinstance(step, Ask)
    fetch.flowing(chunk, step.node, 1.0)
    fetch.reached(chunk, step.node, 7, 2.0)
    fetch.passed(2.0 + fetch.limits.stall)
    drop, other = fetch.steps(10.0)

    assert Drop(chunk, step.node) == drop
    assert isinstance(other, Ask)
    assert 7 == other.offset


def test_many_holders_are_asked_by_everyone_few_by_the_owner() -> None:
    """Upstream is not asked while somebody holds the blob."""
    many = fetching(nodes=9, chunks=20, holders=("n1", "n2", "n3", "n4")).steps(0.0)
    few = fetching(nodes=9, chunks=20, holders=("n1",)).steps(0.0)

    assert {"n1", "n2", "n3", "n4"} >= {step.node for step in many if isinstance(step, Ask)}
    assert [] == [step for step in (*many, *few) if isinstance(step, AskUpstream)]


def test_busy_peers_are_tried_again_after_a_rest_not_upstream() -> None:
    """A 503 from everyone costs time, not bytes from upstream."""
    fetch, chunk = fetching(chunks=40, wants=()), alien()
    fetch.demand(chunk, 0.0, owed=True)
    now = 0.0
    for _ in range(20):
        for step in fetch.steps(now):
            assert isinstance(step, Ask)
            fetch.failed(chunk, step.node, Failure.REFUSED, now)
        now = fetch.due() or now
        fetch.passed(now)

    assert 0 == fetch.counts.upstream


def test_a_budget_bounds_new_requests() -> None:
    """No more is begun than what is allowed from outside."""
    assert 2 == len(fetching(chunks=20).steps(0.0, budget=2))


EVENTS = (
    "arrive",
    "arrive",
    "flow",
    "reach",
    "gone",
    "cut",
    "stall",
    "refuse",
    "wrong",
    "redirect",
)


def act(fetch: Fetching, event: str, step: Ask | AskUpstream, to: str, now: float) -> bool:
    """Tell of one event; whether the request is over."""
    chunk, node = step.chunk, step.node if isinstance(step, Ask) else UPSTREAM
    if event == "arrive" or node == UPSTREAM:
        fetch.arrived(chunk, node, now)
    elif event == "flow":
        fetch.flowing(chunk, node, now)
        return False
    elif event == "reach":
        fetch.reached(chunk, node, 5, now)
        return False
    elif event == "redirect":
        fetch.redirected(chunk, node, to, now)
    else:
        kinds = {"gone": Failure.GONE, "cut": Failure.CUT, "stall": Failure.STALLED}
        kinds |= {"refuse": Failure.REFUSED, "wrong": Failure.WRONG}
        fetch.failed(chunk, node, kinds[event], now)
    return True


@settings(max_examples=150)
@given(st.data())
def test_everything_arrives_whatever_happens(data: st.DataObject) -> None:
    """Upstream lives, so every chunk comes; one request a chunk beside one hedge; no liar again."""
    fetch = fetching(nodes=5, chunks=6, limits=Limits(patience=30.0))
    running: list[Ask | AskUpstream] = []
    now = 0.0
    for _ in range(4000):
        now += 0.3
        fetch.passed(now)
        for step in fetch.steps(now):
            if isinstance(step, Drop):
                running = [
                    each
                    for each in running
                    if (each.chunk, getattr(each, "node", UPSTREAM)) != (step.chunk, step.node)
                ]
            else:
                assert step.chunk not in fetch.here
                assert getattr(step, "node", UPSTREAM) not in fetch.peers.liars
                running.append(step)
        assert all(sum(r.chunk == c for r in running) <= 2 for c in range(6))
        if running:
            step = running[data.draw(st.integers(0, len(running) - 1)) if now < 60 else 0]
            event = data.draw(st.sampled_from(EVENTS)) if now < 60 else "arrive"
            if act(fetch, event, step, f"n{int(now) % 5}", now):
                running = [each for each in running if each is not step]
        if fetch.done:
            break

    assert fetch.done
    assert len(fetch.counts.double) <= fetch.counts.upstream
