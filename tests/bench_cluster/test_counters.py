"""What the cluster's bench reads: links, access logs, CPU, metrics."""

import json

import pytest

from bench.cluster.counters import (
    TICKS,
    Machine,
    Passed,
    answers,
    machine,
    passed,
    process_seconds,
    samples,
)

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def line(what: str, status: int = 200, size: int = 1000) -> str:
    moment = "[23/Nov/2026:03:41:05 +0000]"
    return f'10.77.1.1 - - {moment} "{what} HTTP/1.1" {status} {size} "" "registryd/1"\n'


def test_a_port_takes_what_its_host_sends() -> None:
    """The switch's side of a link counts the other way round."""
    stats = {"rx": {"bytes": 70, "packets": 1}, "tx": {"bytes": 5, "packets": 1}}
    listing = json.dumps([{"ifname": "n1", "stats64": stats}])

    assert {"n1": Passed(sent=70, taken=5)} == passed(listing)
    assert Passed(60, 3) == Passed(70, 5) - Passed(10, 2)


def test_only_content_of_blobs_is_counted() -> None:
    """GET with 200 or 206; no manifests, refusals, questions or other words of the log."""
    log = "".join(
        [
            'time="2026" level=info msg="response completed" http.response.written=77\n',
            line(f"GET /v2/bench/image/blobs/{DIGEST}", 206, 300),
            line(f"GET /v2/bench/image/blobs/{DIGEST}", 200, 4000),
            line(f"GET /v2/deep/er/name/blobs/{OTHER}", 206, 20),
            line(f"GET /v2/bench/image/blobs/{OTHER}", 404, 157),
            line(f"HEAD /v2/bench/image/blobs/{DIGEST}"),
            line(f"GET /v2/bench/image/manifests/{DIGEST}"),
            line("POST /v2/bench/image/blobs/uploads/", 202, 0),
        ]
    )
    found = answers(log)

    assert 4320 == found.size
    assert {DIGEST: 2, OTHER: 1} == found.by_digest


def test_cpu_of_a_process_with_any_name() -> None:
    """User and system time, its dead children's too; a name may hold blanks and brackets."""
    rest = "S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0"
    stat = f"77 (a) b (c) {rest}"

    assert pytest.approx(127 / TICKS) == process_seconds(stat)


def test_idle_share_of_the_machine() -> None:
    """Waiting for a disk is idle; the guests' columns are in the users' already."""
    before = machine("cpu  10 0 10 100 20 0 0 0 5 5\ncpu0 1 1 1 1\n")
    after = machine("cpu  40 0 20 140 40 0 0 0 9 9\ncpu0 1 1 1 1\n")

    assert Machine(140 / TICKS, 120 / TICKS) == before
    assert pytest.approx(60.0) == after.idle_since(before)


def test_samples_of_metrics() -> None:
    """Counters with their labels; neither comments nor buckets."""
    text = (
        "# HELP registryd_served_bytes_total Bytes.\n"
        'registryd_served_bytes_total{source="hit"} 1.5e+06\n'
        "registryd_flights 2.0\n"
        'registryd_request_seconds_bucket{le="0.1"} 4.0\n'
        "process_cpu_seconds_total 9.0\n"
    )

    assert {'registryd_served_bytes_total{source="hit"}': 1.5e6, "registryd_flights": 2.0} == (
        samples(text)
    )
