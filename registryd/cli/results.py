"""What a pull, push or copy says on stdout."""

from __future__ import annotations

from registryd.cli.backend import Event
from registryd.cli.command import Context

#: How destinations begin that are files, where NAME@DIGEST would not mean anything.
FILE_FORMS = ("oci:", "dir:")


def tell_result(context: Context, done: Event) -> None:
    """NAME@DIGEST (of a file the digest); with --format json the event without its kind."""
    if context.options.format == "json":
        context.console.json({key: value for key, value in done.items() if key != "event"})
        return
    name = str(done.get("reference") or "").partition("@")[0]
    exact = f"{name}@{done.get('digest')}"
    context.console.line(str(done.get("digest")) if name.startswith(FILE_FORMS) else exact)
