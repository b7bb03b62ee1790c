"""The simulator: known answers in small cases, bytes that add up, the same again for a seed."""

from pathlib import Path

import pytest

from bench.sim.cluster import Cluster
from bench.sim.drawing import draw
from bench.sim.model import GIGABIT, Result, Settings

MIB = 1 << 20


def storm(**more: float) -> Result:
    return Cluster(Settings(size=32 * MIB, **more)).run()


def test_one_chunk_to_one_node_takes_its_time_on_the_link() -> None:
    """Size over speed, with the two latencies of a request."""
    result = Cluster(Settings(nodes=1, size=8 * MIB, chunk=8 * MIB, spread=0.0)).run()

    assert pytest.approx(8 * MIB / GIGABIT + 0.02, rel=0.01) == result.last
    assert 8 * MIB == result.upstream_bytes


def test_two_nodes_fetch_one_chunk_once() -> None:
    """The second one has it little after the first, and upstream sends it once."""
    result = Cluster(Settings(nodes=2, size=8 * MIB, chunk=8 * MIB, spread=0.0)).run()

    assert 8 * MIB == result.upstream_bytes
    assert 8 * MIB == sum(result.sent)
    assert 1.0 <= result.last / result.settings.floor < 1.7


@pytest.mark.parametrize("more", [{}, {"killed": 0.1}, {"slow": 0.1}, {"loss": 0.05}])
def test_bytes_add_up_and_no_floor_is_broken(more: dict[str, float]) -> None:
    """What was received is what was sent; nobody is done before physics allows; all are done."""
    result = storm(nodes=20, **more)

    assert pytest.approx(result.upstream_bytes + sum(result.sent)) == result.received
    assert 0 == result.unfinished
    assert min(result.healthy) >= result.settings.floor


def test_upstream_sends_each_byte_once() -> None:
    """In a storm without faults, and in one where only some of the nodes ask."""
    assert pytest.approx(32 * MIB) == storm(nodes=30).upstream_bytes
    assert pytest.approx(32 * MIB) == storm(nodes=30, askers=8).upstream_bytes


def test_nothing_from_upstream_when_others_hold_it() -> None:
    """One holder is enough, and so are many."""
    for holders in (1, 8):
        assert 0 == storm(nodes=30, askers=10, holders=holders).upstream_bytes


def test_the_same_seed_gives_the_same_storm() -> None:
    """Every figure of it; another seed another one."""
    first, again, other = (storm(nodes=20, killed=0.1, seed=seed) for seed in (3, 3, 4))

    assert first == again
    assert first.healthy != other.healthy


def test_the_picture_is_a_picture(tmp_path: Path) -> None:
    """A PNG of the storms."""
    draw([storm(nodes=nodes) for nodes in (3, 10)], tmp_path / "storms.png")

    assert (tmp_path / "storms.png").read_bytes().startswith(b"\x89PNG")


def test_the_healthy_do_not_wait_for_the_slow() -> None:
    """A tenth of the nodes is ten times slower: the others are done long before them."""
    result = Cluster(Settings(nodes=40, size=256 * MIB, slow=0.1)).run()

    assert result.last < min(result.slow) / 2
    assert result.upstream_bytes < 1.2 * result.settings.size
