"""Story: who runs a daemon sees what it does, in its log, its metrics and at a terminal."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.registry import FakeRegistry, digest_of
from tests.real.conftest import Start, Upstream
from tests.real.runtimes import Skopeo, need
from tests.real.stories import UP, Daemon, answers, blob_reads, in_thread

MIB = 1 << 20
LAYER = os.urandom(8 * MIB)


def request_lines(node: Daemon, kind: str, count: int) -> list[dict[str, str]]:
    """The log's lines for GETs of blobs or manifests, read; the last ones are on their way."""
    found: list[dict[str, str]] = []
    while len(found) < count:
        lines = re.findall(r" request: (.*)", node.log)
        pairs = [dict(word.partition("=")[::2] for word in shlex.split(line)) for line in lines]
        found = [p for p in pairs if f"/{kind}/" in p["path"] and p["method"] == "GET"]
    return found


def samples(node: Daemon) -> dict[tuple[str, tuple[str, ...]], float]:
    """The metrics, by name and the values of their labels."""
    text = node.get("/metrics")[1].decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_cold_and_a_warm_pull(
    everyones: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path
) -> None:
    """Each blob has a line with its source and bytes; the figures are those of the upstream."""
    node, images = start(everyones.sections), everyones.images
    before = answers(everyones.registry)
    reads = blob_reads(everyones.registry)
    for folder in "ab":
        skopeo.copy(node.mirror("lib/gzip:1"), f"oci:{tmp_path}/{folder}:1")
    blobs = images.blobs("gzip") - {images.digest("gzip")}
    sizes = {digest: _size(tmp_path / "a", digest) for digest in blobs}
    lines = request_lines(node, "blobs", 2 * len(blobs))

    told = sorted((line["source"], line["digest"], int(line["bytes"])) for line in lines)
    assert told == sorted(
        (source, digest, size) for source in ("cache", "upstream") for digest, size in sizes.items()
    )
    assert {f"{UP}/lib/gzip"} == {line["ref"] for line in lines}
    assert all(float(line["first_byte_seconds"]) <= float(line["seconds"]) for line in lines)
    manifests = request_lines(node, "manifests", 2)
    assert images.digest("gzip") in {line["digest"] for line in manifests}

    found, total = samples(node), sum(sizes.values())
    fetched = blob_reads(everyones.registry) - reads
    assert total == sum(sizes[digest] * times for digest, times in fetched.items())
    assert total == found["registryd_upstream_bytes_total", (UP,)]
    assert total == found["registryd_served_bytes_total", ("upstream",)]
    assert total == found["registryd_served_bytes_total", ("cache",)]
    assert len(blobs) == found["registryd_cache_lookups_total", ("blob", "miss")]
    assert len(blobs) == found["registryd_cache_lookups_total", ("blob", "hit")]
    asked = [status for _, _, status in answers(everyones.registry)[len(before) + 1 :]]
    ours = found["registryd_upstream_answers_total", (UP, "2xx")]
    # The looks at the registry's own log are among what it has answered: two of them.
    assert ours == len([status for status in asked if status.startswith("2")]) - 2
    assert found["process_open_fds", ()] > 3


def _size(layout: Path, digest: str) -> int:
    return (layout / "blobs" / digest.replace(":", "/")).stat().st_size


@pytest.fixture
def stalled() -> Iterator[tuple[FakeRegistry, object]]:
    """An upstream that sends half of a layer, and what lets it go on."""
    import asyncio

    fake, gates = FakeRegistry(), []
    fake.add_image("app", "1", LAYER)
    with in_thread(fake) as act:

        def hold() -> None:
            gates.append(asyncio.Event())
            fake.stall(f"GET .*/{digest_of(LAYER)}", gates[0], at=len(LAYER) // 2)

        act(hold)
        yield fake, lambda: act(lambda: gates[0].set())
        act(lambda: gates[0].set())


def test_a_fetch_at_a_terminal(stalled: tuple[FakeRegistry, object], start: Start) -> None:
    """status and cache active show a fetch while it is under way, and that it is over."""
    fake, release = stalled
    node = start({"registries": {UP: {"endpoint": fake.url}}})
    pulling = node.ctl.begin("pull", "-q", f"{UP}/app:1")
    try:
        flight: dict[str, object] = {}
        while flight.get("offset") != len(LAYER) // 2:
            flights = node.ctl.json("cache", "active")["flights"]
            flight = next((f for f in flights if f["digest"] == digest_of(LAYER)), {})
        table = node.ctl.ok("cache", "active").splitlines()
        status = node.ctl.ok("status")
    finally:
        assert callable(release)
        release()
        _, said = pulling.communicate(timeout=60)

    assert (0, "") == (pulling.returncode, said.decode())
    short = digest_of(LAYER).partition(":")[2][:12]
    row = next(line for line in table if line.startswith(short))
    assert f"{short} {UP}/app {fake.name} 4.0 MiB 8.0 MiB 50%" in " ".join(row.split())
    assert row.partition("%")[0] in status  # the rate is another by now
    assert (f"{UP}/app", len(LAYER)) == (flight["repository"], flight["total"])
    after = node.ctl("cache", "active")
    assert (0, "nothing is on its way\n") == (after.code, after.err)


def test_ready_says_that_the_disk_is_full(start: Start, tmp_path: Path) -> None:
    """A daemon whose disk has no room is alive and not ready; its index is still well."""
    need("mount")
    root = tmp_path / "small"
    root.mkdir()
    mount = 'mount -t tmpfs -o size=8m,mode=700 registryd "$0" && exec "$@"'
    namespace = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    node = start({}, root=root, before=(*namespace, "sh", "-c", mount, str(root)))
    _fill(Path(f"/proc/{node.process.pid}/root{root}/filler"))
    status, text = node.get("/readyz")

    assert (503, 200) == (status, node.get("/healthz")[0])
    assert "disk full: 0 MiB free; make room\nindex ok\nlisteners ok\n" == text.decode()


def _fill(path: Path) -> None:
    """Leave not one byte of room."""
    with pytest.raises(OSError, match="No space"), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(MIB))


def test_ready_at_once(everyones: Upstream, start: Start) -> None:
    """A daemon that has said it is ready is ready."""
    node = start(everyones.sections)

    assert (200, b"disk ok\nindex ok\nlisteners ok\n") == node.get("/readyz")
    assert 0 == json.loads(node.ctl.ok("status", "--format", "json"))["lookups"]["blob_hit"]
