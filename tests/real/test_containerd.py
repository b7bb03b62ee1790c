"""Story: containerd fetches through the mirror, as its hosts.toml says.

What every runtime does is in test_matrix; here is what containerd has of its own.
"""

from __future__ import annotations

from pathlib import Path

from tests.real.conftest import Start, Upstream
from tests.real.runtimes import Containerd, Ran, containerd, hosts_file
from tests.real.stories import UP, Daemon, blob_reads


def fetched(folder: Path, node: Daemon, name: str) -> set[str]:
    """What a containerd with an empty store has after it fetched this image."""
    with containerd(folder) as runtime:
        ran = fetch(runtime, node, name)
        assert ran.code == 0, ran.err
        return runtime.content()


def fetch(runtime: Containerd, node: Daemon, name: str) -> Ran:
    """Fetch through the daemon alone."""
    hosts = hosts_file(runtime.folder / "hosts", UP, f"http://{node.address}")
    return runtime.fetch(name, hosts)


def test_an_index_is_fetched_once(everyones: Upstream, start: Start, tmp_path: Path) -> None:
    """Two containerds with empty stores fetch an index; upstream sends each blob of it once."""
    node = start(everyones.sections)
    before = blob_reads(everyones.registry)

    first, second = (fetched(tmp_path / name, node, everyones.name("multi")) for name in "ab")

    assert {everyones.images.digest("multi")} <= first == second
    reads = blob_reads(everyones.registry) - before
    assert set(reads) <= first
    assert {1} == set(reads.values())
    assert "ns=up.test" in node.log


def test_a_missing_image_is_not_found(everyones: Upstream, start: Start, tmp_path: Path) -> None:
    """A tag that upstream does not have is "not found" to containerd, which holds nothing then."""
    node = start(everyones.sections)
    with containerd(tmp_path / "c") as runtime:
        ran = fetch(runtime, node, f"{UP}/lib/gzip:none")

        assert ran.code != 0
        assert "not found" in ran.err
        assert set() == runtime.content()
