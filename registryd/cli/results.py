"""What a pull, push or copy says on stdout."""

from __future__ import annotations

from pathlib import Path

from registryd.cli.backend import Event
from registryd.cli.command import Context
from registryd.oci.errors import UsageError

#: How destinations begin that are files, where NAME@DIGEST would not mean anything.
FILE_FORMS = ("oci:", "dir:", "oci-archive:", "docker-archive:")
#: Those that are stdout itself: the words go to stderr.
STREAMS = ("oci-archive:-", "docker-archive:-")


def without_kind(event: Event) -> Event:
    """What an event says, as --format json has it: without its kind."""
    return {key: value for key, value in event.items() if key != "event"}


def tell_result(context: Context, done: Event) -> None:
    """NAME@DIGEST (of a file the digest); with --format json the event without its kind."""
    name = str(done.get("reference") or "").partition("@")[0]
    if f"{name}:".startswith(tuple(f"{stream}:" for stream in STREAMS)):
        context.console.words(str(done.get("digest")))
        return
    if context.options.format == "json":
        context.console.json(without_kind(done))
        return
    exact = f"{name}@{done.get('digest')}"
    context.console.line(str(done.get("digest")) if name.startswith(FILE_FORMS) else exact)


def write_digest(path: Path, digest: str) -> None:
    """The digest and nothing else, as skopeo writes it (--digestfile). Raises UsageError."""
    try:
        path.write_text(digest)
    except OSError as error:
        raise UsageError(f"--digestfile {path}: {error.strerror}") from error
