"""Events: their keys are an API, and progress comes in measure."""

from __future__ import annotations

import json

from cache.content import Descriptor
from registryd.oci.errors import Denied
from registryd.oci.media_types import OCI_LAYER, OCI_MANIFEST
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.transfer import report
from registryd.transfer.report import Event, ProgressLimit

NAME = Reference.parse("alpine:3.20")
MANIFEST = Descriptor.of(OCI_MANIFEST, b"{}")
LAYER = Descriptor.of(OCI_LAYER, b"layer")


def test_the_keys_of_every_event() -> None:
    """Readers count on these keys and values."""
    digest = str(MANIFEST.digest)
    told = [
        report.resolved(NAME, MANIFEST),
        report.blob(LAYER, "layer", "fetching", source="ghcr.io"),
        report.blob(LAYER, "layer", "done"),
        report.progress(LAYER.digest, 3, 5),
        report.failed(Denied("no")),
    ]
    expected = [
        {
            "event": "resolved",
            "reference": "docker.io/library/alpine:3.20",
            "digest": digest,
            "media_type": OCI_MANIFEST,
            "size": 2,
        },
        {
            "event": "blob",
            "digest": str(LAYER.digest),
            "size": 5,
            "kind": "layer",
            "state": "fetching",
            "source": "ghcr.io",
        },
        {
            "event": "blob",
            "digest": str(LAYER.digest),
            "size": 5,
            "kind": "layer",
            "state": "done",
        },
        {"event": "progress", "digest": str(LAYER.digest), "offset": 3, "total": 5},
        {"event": "failed", "message": "no", "code": "DENIED", "exit_code": 3},
    ]

    assert expected == json.loads(json.dumps(told))


def test_the_keys_of_the_results() -> None:
    """A pull says what was fetched, a copy what was sent."""
    counts = {"held": 2, "held_blobs": 1, "seconds": 1.23456}
    amd = [Platform.parse("linux/amd64")]
    pulled = report.pulled(
        NAME, MANIFEST.digest, amd, fetched=7, fetched_blobs=3, sources={"m": 3}, **counts
    )  # type: ignore[arg-type]
    copied = report.copied("oci:x:y", MANIFEST.digest, amd, sent=7, sent_blobs=3, **counts)  # type: ignore[arg-type]
    same = {
        "event": "done",
        "digest": str(MANIFEST.digest),
        "platforms": ["linux/amd64"],
        "held": 2,
        "held_blobs": 1,
        "seconds": 1.235,
    }
    name = "docker.io/library/alpine:3.20"

    assert {
        **same,
        "reference": name,
        "fetched": 7,
        "fetched_blobs": 3,
        "sources": {"m": 3},
        "kept": True,
    } == pulled
    fate = {"index": None, "manifests": 0, "unchanged": False}
    assert {**same, **fate, "reference": "oci:x:y", "sent": 7, "sent_blobs": 3} == copied


def test_progress_comes_in_measure() -> None:
    """At most one event an interval and blob, and the end always."""
    now, seen = [0.0], list[Event]()
    limit = ProgressLimit(seen.append, lambda: now[0], interval=0.1)
    other = Descriptor.of(OCI_LAYER, b"other").digest
    for time, digest, offset in [
        (0.0, LAYER.digest, 1),
        (0.05, LAYER.digest, 2),
        (0.05, other, 1),
        (0.1, LAYER.digest, 3),
        (0.11, LAYER.digest, 4),
        (0.12, LAYER.digest, 5),
    ]:
        now[0] = time
        limit.advance(digest, offset, 5)

    assert [(LAYER.digest, 1), (other, 1), (LAYER.digest, 3), (LAYER.digest, 5)] == [
        (type(other).parse(str(event["digest"])), event["offset"]) for event in seen
    ]


def test_silence_says_nothing() -> None:
    """The report that is there when nobody listens takes every event."""
    report.silent(report.progress(LAYER.digest, 1, 2))
