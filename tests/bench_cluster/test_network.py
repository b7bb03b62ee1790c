"""The words of tc, what belongs to a dead bench, and a node's configuration."""

from pathlib import Path

import pytest

from bench.cluster.network import BURST, PREFIX, QUEUE, Host, leftovers, shaping
from bench.cluster.programs import Member, configuration, static
from registryd.cluster.identity_files import IdentityFiles
from registryd.config import load


def test_a_slow_link_has_room_for_one_segment_of_the_kernel() -> None:
    """The burst is never smaller, and the queue comes on top of it."""
    words = shaping(100e6)

    assert ["tbf", "rate", "100000000bit"] == words[:3]
    assert ["burst", str(BURST), "limit", str(BURST + QUEUE)] == words[3:]


def test_a_fast_link_has_more() -> None:
    """A burst of a millisecond, a queue of ten."""
    words = shaping(10e9)

    assert ["burst", "1250000", "limit", str(1_250_000 + 12_500_000)] == words[3:]


def test_only_what_dead_benches_left_is_removed() -> None:
    """By the number of the process in the name; other names are not ours."""
    names = [
        f"{PREFIX}-10-n1", f"{PREFIX}-11-n1", f"{PREFIX}-11-switch", f"{PREFIX}-x-n1",
        f"{PREFIX}-12", "blue", "other-11-n1",
    ]  # fmt: skip

    assert [f"{PREFIX}-11-n1", f"{PREFIX}-11-switch"] == leftovers(names, [10, 12])


@pytest.mark.parametrize("clustered", [True, False])
def test_a_nodes_configuration_is_one(tmp_path: Path, clustered: bool) -> None:
    """The daemon reads what the bench writes, with a cluster and without."""
    hosts = [Host("n1", "ns-n1", "10.77.1.1"), Host("n2", "ns-n2", "10.77.1.2")]
    member = Member(hosts[0], IdentityFiles.within(tmp_path))
    text = configuration(
        tmp_path / "cache",
        tmp_path / "s",
        "http://10.77.0.1:5000",
        member if clustered else None,
        static(hosts),
    )
    file = tmp_path / "node.toml"
    file.write_text(text)
    config = load(file)

    assert clustered == config.cluster.on
    if clustered:
        assert ("10.77.1.1:5051", "10.77.1.2:5051") == config.cluster.peers
