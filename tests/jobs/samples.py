"""Jobs as tests need them."""

from __future__ import annotations

from typing import Any

from cache.content import Digest
from registryd.jobs.record import Image, Job
from registryd.oci.reference import Reference

NOW = 1_800_000_000.0
DIGEST = Digest.of(b"an image")


def image(text: str = "docker.io/library/alpine:3", content: bytes = b"an image") -> Image:
    """An image of a job."""
    return Image(Reference.parse(text), Digest.of(content))


def job(**members: Any) -> Job:
    """A job for all nodes, of one image."""
    usual: dict[str, Any] = {
        "id": "0123456789ab",
        "images": (image(),),
        "targets": None,
        "node": "n1",
        "created": NOW,
        "until": NOW + 3600,
    }
    return Job(**{**usual, **members})
