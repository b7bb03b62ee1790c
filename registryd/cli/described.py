"""What an image is, in the words of skopeo: read through a backend, or out of a file.

Invariant: Digest is that of what the name means, which may be an index's; everything else is said
of one image.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registryd.cli.backend import Backend, Raw
from registryd.cli.command import Context
from registryd.oci.errors import ManifestInvalid
from registryd.oci.reference import Reference
from registryd.secrets import Login

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation


@dataclass(frozen=True, slots=True)
class Parts:
    """An image's root, the manifest for one platform, and its configuration."""

    root: Raw
    manifest: Raw
    config: Raw


def from_backend(
    chosen: Backend, reference: Reference, platform: str | None, login: Login | None
) -> Parts:
    """Ask whoever works. Raises Fault."""
    root = chosen.raw("manifest", {"reference": str(reference)}, login)
    config = chosen.raw("config", {"reference": str(reference), "platform": platform}, login)
    manifest = root
    if config.manifest_digest and config.manifest_digest != root.digest:
        exact = f"{reference.name}@{config.manifest_digest}"
        manifest = chosen.raw("manifest", {"reference": exact}, login)
    return Parts(root, manifest, config)


async def from_file(context: Context, location: ImageLocation, platform: str | None) -> Parts:
    """Read a layout or folder. Raises Fault."""
    from registryd.cli.ends import Ends
    from registryd.cli.platforms import own
    from registryd.oci.image_config import CONFIG_LIMIT
    from registryd.oci.manifest import Document, Index, Manifest
    from registryd.oci.platform import Platform

    wanted = Platform.parse(platform) if platform else own()
    async with AsyncExitStack() as stack:
        source = await Ends(context, None, stack).source(location)
        root = await source.root()
        document: Document = root
        while isinstance(document, Index):
            document = await source.manifest(document.select(wanted).descriptor)
        assert isinstance(document, Manifest)  # noqa: S101 - a document is one of the two
        if document.config.size > CONFIG_LIMIT:
            raise ManifestInvalid(f"config {document.config.digest}: it is larger than any")
        async with source.blob(document.config) as body:
            content = b"".join([piece async for piece in body])
    config = document.config
    return Parts(
        Raw(root.raw, root.media_type, str(root.digest)),
        Raw(document.raw, document.media_type, str(document.digest)),
        Raw(content, config.media_type, str(config.digest), str(document.digest)),
    )


def described(parts: Parts, name: str, tags: list[str]) -> dict[str, Any]:
    """The members of skopeo's inspect; an image without a name has no member Name."""
    layers = json_object(parts.manifest, f"manifest of {name}").get("layers") or []
    image = json_object(parts.config, f"config of {name}")
    settings = image.get("config") or {}
    return {
        **({"Name": name} if name else {}),
        "Digest": parts.root.digest,
        "RepoTags": tags,
        "Created": image.get("created") or "",
        "DockerVersion": image.get("docker_version") or "",
        "Labels": settings.get("Labels") or {},
        "Architecture": image.get("architecture") or "",
        **({"Variant": image["variant"]} if image.get("variant") else {}),
        "Os": image.get("os") or "",
        "Layers": [layer.get("digest") for layer in layers],
        "LayersData": [_layer(layer) for layer in layers],
        "Env": settings.get("Env") or [],
    }


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "MIMEType": layer.get("mediaType"),
        "Digest": layer.get("digest"),
        "Size": layer.get("size"),
        "Annotations": layer.get("annotations"),
    }


def json_object(answer: Raw, what: str) -> dict[str, Any]:
    """The JSON object in an answer. Raises ManifestInvalid."""
    try:
        value = json.loads(answer.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ManifestInvalid(f"the {what} is not a JSON object (--raw shows it)")
    return value
