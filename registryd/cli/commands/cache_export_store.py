"""``cache export-store``: fill a store on a shared file system, which nodes read before all else.

This process writes, as whoever runs it: the daemon gives it the blobs' open files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context

if TYPE_CHECKING:
    from registryd.images.shared_store import SharedStore


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", metavar="DIR", help="the store; it is made where there is none")
    parser.add_argument(
        "references",
        metavar="REF",
        nargs="*",
        default=[],
        help="images of the cache (default: all that everybody may read)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        default=False,
        help="all images that you may read, private ones too",
    )
    parser.add_argument(
        "--no-made",
        action="store_true",
        default=False,
        help="without what was made of the images (convert)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        default=False,
        help="read what the store has already, and prove it",
    )
    parser.add_argument(
        "--remove",
        metavar="REF",
        action="append",
        default=[],
        help="take a name out of the store (may be repeated)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        default=False,
        help="take away blobs that no name has led to for a day",
    )


def run(context: Context) -> None:
    """Write what is missing, then the names. Raises Fault."""
    from registryd.images.shared_store import SharedStore
    from registryd.oci.reference import Reference

    options = context.options
    store = SharedStore(Path(options.folder).absolute())
    gone = frozenset(str(Reference.parse(text)) for text in options.remove)
    asked = {
        "references": [str(Reference.parse(text)) for text in options.references],
        "everything": options.all,
        "made": not options.no_made,
    }
    store.prepare()
    with backend(context) as chosen:
        images: list[dict[str, Any]] = []
        if asked["references"] or options.all or not (gone or options.prune):
            images = chosen.call("contents", asked)["images"]
        written, kept = _fill(chosen, store, images, proven=options.verify)
    if not images and not (gone or options.prune):
        context.console.warning("no image here is known to be public: name images, or use --all")
    store.enter([entry for image in images for entry in _entries(image)], gone)
    pruned = store.prune() if options.prune else (0, 0)
    done = {
        "store": str(store.root),
        "images": [image["reference"] for image in images],
        "blobs": written[0],
        "bytes": written[1],
        "held_blobs": kept[0],
        "held_bytes": kept[1],
        "removed": sorted(gone),
        "pruned_blobs": pruned[0],
        "pruned_bytes": pruned[1],
    }
    if options.format == "json":
        context.console.json(done)
        return
    for image in images:
        note = "" if image["public"] else "  (private in its registry; whoever reads DIR reads it)"
        context.console.line(f"{image['reference']}@{image['digest']}{note}")
    if not options.quiet:
        context.console.words(
            f"{wording.counted(written[0], 'blob')} written, {wording.size(written[1])};"
            f" {wording.counted(kept[0], 'blob')} there already, {wording.size(kept[1])}"
            + (f"; {wording.counted(pruned[0], 'blob')} taken away" if options.prune else "")
        )


def _fill(
    cache: Backend, store: SharedStore, images: list[dict[str, Any]], *, proven: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Blobs and bytes that were written, and that were there."""
    written, kept, seen = (0, 0), (0, 0), set[str]()
    for image in images:
        for blob in image["blobs"]:
            descriptor = _descriptor(blob)
            if blob["digest"] in seen:
                continue
            seen.add(blob["digest"])
            if store.has(descriptor, proven=proven):
                kept = (kept[0] + 1, kept[1] + descriptor.size)
                continue
            file = cache.opened(image["reference"], blob["digest"])
            try:
                store.put(file, descriptor)
            finally:
                os.close(file)
            written = (written[0] + 1, written[1] + descriptor.size)
    return written, kept


def _descriptor(blob: Mapping[str, Any]) -> Any:
    from cache.content import Descriptor, Digest

    return Descriptor(blob["media_type"], Digest.parse(blob["digest"]), blob["size"])


def _entries(image: Mapping[str, Any]) -> list[dict[str, object]]:
    """What index.json says of an image, and of what was made of it."""
    from cache.content import Digest
    from cache.lower_index import entry, made_entry

    found = [entry(_descriptor(image), image["reference"], image["checked"])]
    found += [
        made_entry(_descriptor(blob), Digest.parse(blob["made_of"]))
        for blob in image["blobs"]
        if blob["made_of"]
    ]
    return found
