"""``manifest put``: the bytes of a manifest or index, under a name in a registry."""

from __future__ import annotations

from pathlib import Path

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.command import Context
from registryd.oci.reference import Reference

STDIN = "-"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", metavar="FILE", help="- is stdin")
    parser.add_argument("reference", metavar="REF", help="NAME:TAG or NAME@DIGEST")
    parser.add_argument(
        "--media-type", metavar="TYPE", default="", help="where the manifest does not say it"
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Put it; NAME@DIGEST on stdout.

    What it points to must be in the repository. Raises ManifestInvalid, DigestMismatch, Fault.
    """
    from registryd.cli.blob_files import read_small_file
    from registryd.cli.direct import open_registry
    from registryd.cli.direct import run as do
    from registryd.oci.manifest import MANIFEST_LIMIT, Document, parse

    options, console = context.options, context.console
    file, name = _in_our_order(options.file, options.reference)
    reference = Reference.parse(name)
    raw = read_small_file(file, console, MANIFEST_LIMIT + 1)
    document = parse(raw, options.media_type, reference.digest)

    async def put(document: Document) -> None:
        async with open_registry(context, reference.registry, reference.repository) as remote:
            listed = await remote.push_manifest(reference, document)
            if document.subject is not None and not listed:
                await remote.note_subject(reference.bare(), document)

    do(put(document))
    if options.format == "json":
        descriptor = document.descriptor
        console.json(
            {
                "reference": str(reference),
                "digest": str(descriptor.digest),
                "media_type": descriptor.media_type,
                "size": descriptor.size,
            }
        )
    else:
        console.line(f"{reference.name}@{document.digest}")


def _in_our_order(file: str, name: str) -> tuple[str, str]:
    """File and name, also where they were written as oras has them: the name first."""
    turned = name == STDIN or Path(name).is_file()
    return (name, file) if turned and file != STDIN and not Path(file).is_file() else (file, name)
