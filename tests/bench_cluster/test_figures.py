"""The figures of the cluster's bench: floors with known answers, ratios, rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cluster.figures import Links, Run, floor, heading, row

SPEEDS = st.floats(1e3, 1e10)


def run(**more: object) -> Run:
    values: dict[str, object] = {
        "what": "a run", "size": 100, "floor": 10.0, "ends": (10.0, 11.0, 20.0),
        "upstream": 101, "upstream_wire": 120, "sent": (90, 150, 0),
        "cpu": 1.5, "idle": 50.0, "idle_least": 40.0,
    }  # fmt: skip
    return Run(**(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("takers", "links", "holders", "seconds"),
    [
        (1, Links(10, 10), 0, 10.0),  # one node: the slower of two links
        (1, Links(100, 10), 0, 10.0),
        (16, Links(10, 10), 0, 10.0),  # 16*100/170 is less than what one link needs
        (16, Links(10, 100), 0, 10.0),  # all wait for the upstream
        (10, Links(100, 10), 0, 10.0),
        (1000, Links(1000, 1), 0, 100.0),
        (4, Links(1e9, 10), 0, 10.0),
        (8, Links(1, 10), 8, 10.0),  # held: the upstream has no part in it
        (15, Links(1e-9, 10), 1, 10.0),
        (15, Links(5, 10), 0, 20.0),
    ],
)
def test_floor_of_known_cases(takers: int, links: Links, holders: int, seconds: float) -> None:
    """The slowest of: the upstream's link, a node's link, and what all together can send."""
    assert pytest.approx(seconds) == floor(100, takers, links, holders)


@given(st.integers(1, 1 << 40), st.integers(1, 10_000), SPEEDS, SPEEDS)
def test_floor_is_never_below_any_of_its_reasons(
    size: int, nodes: int, upstream: float, link: float
) -> None:
    """max(S/B0, S/B, N*S/(B0+N*B)), and grows with the nodes."""
    links = Links(upstream, link)
    least = floor(size, nodes, links)

    assert pytest.approx(least) == max(
        size / upstream, size / link, nodes * size / (upstream + nodes * link)
    )
    assert floor(size, nodes + 1, links) >= least


@pytest.mark.parametrize("speeds", [(0, 1), (1, 0), (-1, 1)])
def test_links_give_something(speeds: tuple[float, float]) -> None:
    """A link that gives nothing was measured wrongly."""
    with pytest.raises(ValueError, match="bytes a second"):
        Links(*speeds)


def test_ratios_of_a_run() -> None:
    """Times to the floor, bytes to the size of the image."""
    one = run()

    assert (20.0, 2.0, 1.1) == (one.last, one.last_ratio, one.middle_ratio)
    assert (1.01, 1.5) == (one.upstream_ratio, one.most_sent_ratio)
    assert {"ends", "last_ratio", "metrics", "upstream_wire"} < set(one.record())


def test_rows_are_as_wide_as_the_heading() -> None:
    """One run gives its figures, several their medians and ranges."""
    columns = heading()[0].count("|")
    rows = [row([run()]), row([run(), run(ends=(30.0,)), run(ends=(40.0,))])]

    assert [columns, columns] == [each.count("|") for each in rows]
    assert "| 20 s | 2 x |" in rows[0]
    assert "| 30 s (20 to 40) |" in rows[1]
