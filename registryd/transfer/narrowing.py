"""Which part of an image is meant: some platforms, and in which form their index goes along.

Invariants:
- where a form was asked for, what belongs to an image (its provenance) goes where that image goes;
- nothing is decided by what a destination would take: it is what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cache.content import Digest
from registryd.oci.errors import ManifestInvalid, PlatformUnknown
from registryd.oci.image_config import CONFIG_LIMIT, parse_config
from registryd.oci.manifest import Document, Index, Manifest
from registryd.oci.media_types import DOCKER_CONFIG, OCI_CONFIG
from registryd.oci.platform import Platform
from registryd.oci.stripping import stripped, with_belongings
from registryd.ports import Source

#: How deep indexes may lie in indexes; one in one is all that is seen in practice.
DEPTH_LIMIT: Final = 8

#: ``usual``: one platform's manifest becomes the root, of several the index is kept; ``keep``: the
#: index as it is, with only these images; ``strip``: a new index of only these; ``alone``: the
#: index without any of its images.
IndexForm = Literal["usual", "keep", "strip", "alone"]
#: What has become of an index at its destination; None: the root there is none.
IndexFate = Literal["whole", "kept", "stripped"]


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The root to copy, and which of its children (None: all)."""

    root: Document
    kept: frozenset[Digest] | None = None
    index: IndexFate | None = None


async def narrow(
    source: Source, root: Document, platforms: Sequence[Platform], form: IndexForm = "usual"
) -> Narrowed:
    """What of an image is meant by these platforms (none: all of them).

    Raises PlatformUnknown, ManifestInvalid, and what the source raises.
    """
    if not isinstance(root, Index):
        if platforms:
            await _check_platform(source, root, platforms)
        return Narrowed(root)
    if form == "alone":
        return Narrowed(root, frozenset(), "kept")
    if not platforms:
        return Narrowed(root, None, "whole")
    chosen = [root.select(platform).descriptor.digest for platform in platforms]
    if form == "usual" and len(set(platforms)) == 1:
        return await _only(source, root, platforms)
    # Who asks for no form may not hold what belongs to an image: a push of what was pulled.
    kept = frozenset(chosen) if form == "usual" else with_belongings(root, chosen)
    if kept.issuperset(child.digest for child in root.children):
        return Narrowed(root, None, "whole")
    if form == "strip":
        return Narrowed(stripped(root, kept), None, "stripped")
    return Narrowed(root, kept, "kept")


async def _only(source: Source, root: Index, platforms: Sequence[Platform]) -> Narrowed:
    """The one image for a platform, wherever it lies in the index."""
    found: Document = root
    for _ in range(DEPTH_LIMIT):
        if not isinstance(found, Index):
            await _check_platform(source, found, platforms)
            return Narrowed(found)
        entry = found.select(platforms[0])
        found = await source.manifest(entry.descriptor)
        if entry.platform and isinstance(found, Manifest):
            return Narrowed(found)
    raise ManifestInvalid(f"{found.digest} has indexes in indexes, more than {DEPTH_LIMIT} deep")


async def _check_platform(source: Source, root: Document, platforms: Sequence[Platform]) -> None:
    """An image that no index describes says its platform in its config; artifacts say none."""
    config = root.config if isinstance(root, Manifest) else None
    if config is None or config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        return
    if config.size > CONFIG_LIMIT:
        raise ManifestInvalid(f"config {config.digest}: {config.size} bytes are too many")
    async with source.blob(config) as body:
        own = parse_config(b"".join([piece async for piece in body])).platform
    for platform in platforms:
        if own.known and platform.accepts(own) is None:
            raise PlatformUnknown(
                f"there is no image for {platform} in {root.digest} (it is for {own})"
            )
