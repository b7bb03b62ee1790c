"""A scripted registry with an image of other programs: real layers, and faults on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.registry import FakeRegistry
from tests.real.images import Images, read
from tests.real.stories import UP, Sections

#: The image that the scripted registry has, as the layouts call it and as it is pulled.
NAME = "gzip"
REPOSITORY, TAG = f"lib/{NAME}", "1"
IMAGE = f"{REPOSITORY}:{TAG}"
#: A daemon's patience, so short that no one waits for its last try.
TRANSFER = {"attempts": 2, "connect_timeout": "1s", "stall_timeout": "300ms"}


def scripted(images: Images) -> FakeRegistry:
    """A registry with the image; it is not listening yet."""
    registry, layout = FakeRegistry(), images.layouts[NAME]
    root = images.digest(NAME)
    for digest in images.blobs(NAME):
        content = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        if digest == root:
            registry.add_manifest(REPOSITORY, TAG, content)
        else:
            registry.add_blob(REPOSITORY, content)
    return registry


def largest_layer(images: Images) -> tuple[str, int]:
    """Digest and size of the image's largest layer."""
    layers: list[dict[str, Any]] = read(images.layouts[NAME], images.digest(NAME))["layers"]
    return max(((str(layer["digest"]), int(layer["size"])) for layer in layers), key=lambda x: x[1])


def before(endpoint: str, *, tag_ttl: str = "5m", **more: Mapping[str, Any]) -> Sections:
    """A daemon's sections for this registry, by the made-up name and as Docker Hub."""
    entry = {"endpoint": endpoint, "tag_ttl": tag_ttl}
    return {"registries": {UP: entry, "docker.io": entry}, **more}
