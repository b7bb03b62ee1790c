"""Story: a lazy reader takes parts of a layer that no node has; upstream's own log counts them."""

from __future__ import annotations

import http.client
import random
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.registry import digest_of
from tests.real.conftest import Start
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import UP, Daemon, answers, arriving, blobs_of, upstream_at

MIB = 1 << 20
SIZE = 40 * MIB + 123
LAYER = random.Random(40).randbytes(SIZE)
DIGEST = digest_of(LAYER)
PATH = f"/v2/{UP}/lib/big/blobs/{DIGEST}"
_WRITTEN = re.compile(rf"http\.request\.method=GET .*{DIGEST}.*http\.response\.written=(\d+)")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry with one large layer."""
    with open_registry(tmp_path_factory.mktemp("upstream")) as running:
        with closing(http.client.HTTPConnection(running.name, timeout=60)) as connection:
            connection.request("POST", "/v2/lib/big/blobs/uploads/")
            answer = connection.getresponse()
            answer.read()
            place = answer.headers["Location"].removeprefix(running.url)
            connection.request("PUT", f"{place}&digest={DIGEST}", LAYER)
            assert connection.getresponse().status == 201
        yield running


def written(registry: RealRegistry) -> list[int]:
    """The bytes of every answer to a GET of the layer so far."""
    answers(registry)  # all that was answered is in the log by then
    found = (_WRITTEN.search(line) for line in list(registry.log))
    return [int(match[1]) for match in found if match]


def ask(node: Daemon, wanted: str = "", take: int | None = None) -> tuple[int, str, bytes]:
    """Status, Content-Range and body; ``take`` closes the connection after so many bytes."""
    with closing(http.client.HTTPConnection(node.address, timeout=60)) as connection:
        connection.request("GET", PATH, headers={"Range": wanted} if wanted else {})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Range", ""), answer.read(take)


def test_a_lazy_reader(registry: RealRegistry, start: Start, tmp_path: Path) -> None:
    """A footer, a table of contents and some files, each read twice, cost upstream their chunks
    once; a whole pull afterwards costs the rest, and no byte is sent twice."""
    before = len(written(registry))
    sections, folder = upstream_at(registry.url), tmp_path / "node"
    parts = [("bytes=-51", SIZE - 51, SIZE),
             (f"bytes={30 * MIB}-{30 * MIB + 99_999}", 30 * MIB, 30 * MIB + 100_000),
             (f"bytes={9 * MIB - 5}-{9 * MIB + 4}", 9 * MIB - 5, 9 * MIB + 5)]  # fmt: skip
    node = start(sections, folder)
    for _ in range(2):
        for wanted, begin, stop in parts:
            expected = (206, f"bytes {begin}-{stop - 1}/{SIZE}", LAYER[begin:stop])
            assert expected == ask(node, wanted)
    cost = written(registry)[before:]

    assert 3 == len(cost)
    assert sum(cost) <= 4 * MIB
    assert set() == blobs_of(node.root)
    assert 2 == len(arriving(node.root))

    assert (200, "", LAYER) == ask(node)
    assert SIZE == sum(written(registry)[before:])
    assert {DIGEST} == blobs_of(node.root)
    assert [] == arriving(node.root)


def test_parts_survive_a_kill(registry: RealRegistry, start: Start, tmp_path: Path) -> None:
    """What came of a blob before a kill -9 is given by the next process without upstream."""
    root = tmp_path / "root"
    first = start(upstream_at(registry.url), root=root)
    expected = ask(first, "bytes=5000000-5999999")
    first.process.kill()
    first.process.wait()
    before = len(written(registry))
    second = start(upstream_at(registry.url), root=root)

    assert (206, LAYER[5_000_000:6_000_000]) == (expected[0], expected[2])
    assert expected == ask(second, "bytes=5000000-5999999")
    assert before == len(written(registry))


def test_parallel_open_ranges(registry: RealRegistry, start: Start) -> None:
    """Open ranges that are closed early, as a parallel fetch sends them, bring the blob in the
    end, for little more than its size."""
    before = len(written(registry))
    node = start(upstream_at(registry.url))
    for begin in (30 * MIB, 20 * MIB, 10 * MIB, 0):
        status, _, body = ask(node, f"bytes={begin}-", take=MIB)
        assert (206, LAYER[begin : begin + MIB]) == (status, body)

    assert (200, "", LAYER) == ask(node)
    assert sum(written(registry)[before:]) <= 2 * SIZE
    assert {DIGEST} == blobs_of(node.root)
