"""Story: a link that is cut and stalls, a pull that is killed: what came does not come again."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.link import Link
from bench.rig import MIB, rig
from tests.real.runtimes import module, plain_environ

SIZE = 32 * MIB
#: What may come twice: a little of what was under way.
MOST = 1.05


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a registry with an image of one layer."""
    with rig(tmp_path_factory.mktemp("link")) as made:
        port = made.registry()
        made.push([SIZE], f"127.0.0.1:{port}/a:1")
        yield port


def pulling(link: Link, home: Path, stall: str = "300ms") -> subprocess.Popen[bytes]:
    """A pull through the link into a cache below a home, in the command's own process."""
    config = home / ".config" / "registryd"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.toml").write_text(f'[transfer]\nstall_timeout = "{stall}"\n')
    words = ["pull", "--root", str(home / "cache"), "-q", f"127.0.0.1:{link.port}/a:1"]
    return subprocess.Popen(
        module("registryd.cli.main", *words),
        env={**plain_environ(home), "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_link_that_is_cut_twenty_times_and_stalls_twice(port: int, tmp_path: Path) -> None:
    """The image is right, and hardly a byte has come twice; who is quiet is not told of it."""
    chance = random.Random(1)
    cuts = [chance.randrange(1, SIZE) for _ in range(20)]
    stalls = [chance.randrange(1, SIZE) for _ in range(2)]
    with Link(port, cuts=cuts, stalls=stalls, gentle=True) as link:
        out, err = pulling(link, tmp_path).communicate(timeout=60)

    assert ("", True) == (err.decode(), out.startswith(b"127.0.0.1"))
    assert 0 == link.left
    assert SIZE <= link.passed <= MOST * SIZE


def journaled(home: Path) -> int:
    """Bytes of the layer that are in the file, and would survive the process."""
    files = (home / "cache" / "ingest").glob("*.ranges")
    lines = [line.split() for file in files for line in file.read_text().splitlines()]
    return sum(int(line[1]) - int(line[0]) for line in lines if line[0].isdigit())


def test_a_pull_that_is_killed_goes_on_where_it_was(port: int, tmp_path: Path) -> None:
    """SIGKILL twice in the middle: the next command asks only for what is missing."""
    stops = (SIZE // 3, 2 * SIZE // 3)
    with Link(port, stalls=stops) as link:
        for left in (1, 0):
            process = pulling(link, tmp_path, stall="60s")
            deadline = time.monotonic() + 60
            while link.left != left or journaled(tmp_path) < link.passed - 100_000:
                assert time.monotonic() < deadline, (link.passed, journaled(tmp_path))
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(str(process.communicate(timeout=0.02)))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        out, err = pulling(link, tmp_path).communicate(timeout=60)

    assert ("", True) == (err.decode(), out.startswith(b"127.0.0.1"))
    assert SIZE <= link.passed <= MOST * SIZE
