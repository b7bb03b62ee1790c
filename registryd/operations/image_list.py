"""The list of images as the API gives it: one text, of which a line is made when its image changes.

Invariants:
- a caller sees the images that they were let into, and no trace of others in any number;
- what an image says of its platforms is read from its blobs once, and kept with the cache;
- lists are made one after another, in a thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from cache.content import Digest
from cache.errors import CacheError, Fault
from cache.graph import Shown
from cache.patterns import matcher
from registryd.oci.image_config import CONFIG_LIMIT, parse_config
from registryd.oci.manifest import MANIFEST_LIMIT, Manifest, parse
from registryd.oci.reference import Reference
from registryd.operations.node import Node, moment

#: The platforms of an image; with each the manifest that has to be whole for it ("": its own).
Platforms = Sequence[Sequence[str]]


class ImageList:
    """The list of a node's images."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store
        self._turn = asyncio.Lock()
        self._platforms: dict[str, Platforms] | None = None
        #: By name: what a line was made of, and the line, which lacks its end.
        self._lines: dict[str, tuple[Shown, str]] = {}

    async def rendered(self, principal: str) -> bytes:
        """The answer of ``images`` as JSON. Raises Faults only."""
        catalogue, visible = self._store.catalogue, None
        if principal:
            repositories = await catalogue.repositories()
            visible = await self._node.access.readable(principal, repositories)
        async with self._turn:
            shown = await catalogue.shown(visible)
            platforms = await self._known(shown)
            pinned = {str(pin.digest) for pin in await self._store.pins.all()}
            if rules := await self._store.pins.rules():
                ruled = matcher(rule.pattern for rule in rules)
                pinned.update(row.entry.digest for row in shown if ruled(row.entry.name))
            return await asyncio.to_thread(self._render, shown, platforms, pinned)

    def _render(
        self, shown: Sequence[Shown], platforms: Mapping[str, Platforms], pinned: Collection[str]
    ) -> bytes:
        lines, before = {}, self._lines
        parts = []
        for row in shown:
            name = row.entry.name
            line = before.get(name)
            if line is None or line[0] is not row:
                line = row, _line(row, platforms.get(row.entry.digest, ()))
            if row.entry.digest in platforms:  # else it is not known yet what it says
                lines[name] = line
            parts.append(line[1] + ("true}" if row.entry.digest in pinned else "false}"))
        self._lines = lines
        return f'{{"images": [{", ".join(parts)}]}}'.encode()

    async def _known(self, shown: Sequence[Shown]) -> dict[str, Platforms]:
        """The platforms of these images by their digests; what is not known yet is read."""
        known = self._platforms
        if known is None:
            notes = await self._store.notes.all()
            known = self._platforms = {digest: json.loads(text) for digest, text in notes.items()}
        wanted = {row.entry.digest: row for row in shown}
        found: dict[str, Platforms] = {}
        for digest in wanted.keys() - known.keys():
            with suppress(Fault):
                found[digest] = await self._read(wanted[digest])
        known.update(found)
        with suppress(CacheError):  # then they are read again some day
            await self._store.notes.add({d: json.dumps(each) for d, each in found.items()})
        if len(known) > len(self._store) + KEPT:
            held = self._store.held
            self._platforms = {d: each for d, each in known.items() if Digest.parse(d) in held}
        return known

    async def _read(self, row: Shown) -> Platforms:
        """Raises Fault where it cannot be told now."""
        digest = Digest.parse(row.entry.digest)
        raw = await self._store.read(digest, limit=MANIFEST_LIMIT, use=False)
        document = parse(raw, row.entry.media_type or None, digest)
        if isinstance(document, Manifest):
            config = document.config.digest
            raw = await self._store.read(config, limit=CONFIG_LIMIT, use=False)
            platform = parse_config(raw).platform
            return [[str(platform), ""]] if platform.known else []
        return [
            [str(entry.platform), str(entry.descriptor.digest)]
            for entry in document.entries
            if entry.platform and entry.platform.known
        ]


#: Images whose platforms are remembered though they have gone.
KEPT = 1000


def _line(row: Shown, platforms: Platforms) -> str:
    """A line without its end, which says whether the image is pinned."""
    entry, image = row.entry, row.image
    line = {
        "name": entry.repository,
        "tag": Reference.parse(entry.name, default_tag=None).tag or "",
        "reference": entry.name,
        "digest": entry.digest,
        "media_type": entry.media_type,
        "platforms": [name for name, of in platforms if not of or of in image.whole],
        "size": image.size,
        "own_size": row.own,
        "last_used": moment(image.used),
    }
    return f'{json.dumps(line)[:-1]}, "pinned": '
