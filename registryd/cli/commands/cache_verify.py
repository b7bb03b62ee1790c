"""``cache verify``: whether what the cache holds is still what it was."""

from __future__ import annotations

from cache.errors import DigestInvalid, DigestMismatch
from registryd.cli import progress, wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import Event, backend
from registryd.cli.command import Context
from registryd.cli.results import without_kind


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "targets",
        metavar="REF|DIGEST",
        nargs="*",
        default=[],
        help="images, or blobs by their digests (default: all that the cache holds)",
    )


def run(context: Context) -> None:
    """Prove, and print what was wrong, a line for each blob. Raises Fault, DigestMismatch."""
    targets = [_whole(target) for target in context.options.targets]
    with backend(context) as chosen, progress.shown(context) as show:
        done = chosen.stream("verify", {"targets": targets}, show)
    bad = done.get("corrupt") or []
    if context.options.format == "json":
        context.console.json(without_kind(done))
    else:
        for each in bad:
            context.console.line(_line(each))
    if bad:
        raise DigestMismatch(
            f"{wording.counted(len(bad), 'blob')} of the cache put aside as wrong"
            " (pull the images again)"
        )
    if not context.options.quiet:
        proven = wording.counted(int(done.get("blobs") or 0), "blob")
        size, seconds = int(done.get("bytes") or 0), float(done.get("seconds") or 0)
        context.console.words(f"{proven}, {wording.size(size)}, {wording.rate(size, seconds)}")


def _whole(target: str) -> str:
    """A reference in full; a digest as it is."""
    from cache.content import Digest
    from registryd.oci.reference import Reference

    try:
        return str(Digest.parse(target))
    except DigestInvalid:
        return str(Reference.parse(target))


def _line(bad: Event) -> str:
    images = ", ".join(bad.get("images") or ["no image"])
    return (
        f"{bad.get('digest')}: {bad.get('why')}; needed by {images}; now {bad.get('file') or '-'}"
    )
