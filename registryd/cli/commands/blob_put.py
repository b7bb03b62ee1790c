"""``blob put``: a file into a repository, as a blob."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from registryd.cli import progress
from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.command import Context
from registryd.cli.places import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registryd.cli.blob_files import Hashed
    from registryd.ports import Body


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("repository", metavar="REPOSITORY", help="NAME, or NAME@DIGEST to check it")
    parser.add_argument("file", metavar="FILE", help="- is stdin")
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Put it; its digest on stdout. Raises DigestMismatch, Fault."""
    from cache.errors import DigestMismatch
    from registryd.cli.blob_files import hashed
    from registryd.cli.direct import run as do

    options = context.options
    place = Place.parse(options.repository)
    wanted = place.reference.digest
    algorithm = wanted.algorithm if wanted else "sha256"
    with (
        hashed(options.file, context.console, algorithm) as content,
        progress.shown(context) as show,
    ):
        if wanted not in (None, content.digest):
            raise DigestMismatch(f"{options.file} hashes to {content.digest}, not to {wanted}")
        done = do(_put(context, Place(place.reference.bare(), place.cached), content, show))
    if options.format == "json":
        context.console.json(done)
    else:
        context.console.line(str(done["digest"]))


async def _put(
    context: Context, place: Place, content: Hashed, report: progress.Progress
) -> dict[str, Any]:
    from cache.content import Descriptor
    from registryd.cli.blob_files import HashedBody
    from registryd.cli.blob_moves import Told
    from registryd.oci.media_types import OCTET_STREAM

    descriptor = Descriptor(OCTET_STREAM, content.digest, content.size)
    async with place.open(context) as remote:
        held = await remote.has_blob(place.reference, content.digest)
        told = Told(report, content.digest, content.size, "waiting" if held else "pushing")

        @asynccontextmanager
        async def opened() -> AsyncIterator[Body]:
            yield HashedBody(content, told.moved)

        if not held:
            await remote.push_blob(place.reference, descriptor, opened)
        told.done("held" if held else "done")
    exact = f"{place.reference.name}@{content.digest}"
    return {
        "reference": exact,
        "digest": str(content.digest),
        "size": content.size,
        "held": held,
    }
