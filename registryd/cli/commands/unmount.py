"""``unmount``: end what ``mount`` has made, once for each time it was asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.mounts.kept import Kept


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "names", metavar="REF|FILE|DIR", nargs="*", default=[], help="an image, a file, or a folder"
    )
    parser.add_argument(
        "-a", "--all", action="store_true", default=False, help="all that this user has mounted"
    )
    parser.add_argument(
        "-l",
        "-z",
        "--lazy",
        action="store_true",
        default=False,
        help="what is in use too: it goes from its place now, and ends with its last user",
    )


def run(context: Context) -> None:
    """Unmount; the folders where nothing is mounted any more on stdout. Raises Fault."""
    from registryd.cli.several import each
    from registryd.mounts.kept import kept, let_go

    options = context.options
    if options.all == bool(options.names):
        raise UsageError("name an image, a file or a folder, or say --all")
    left: list[Kept] = []

    def end(name: str) -> None:
        mounts = [mount for _, mount in kept(context.environ)]
        left.append(
            let_go(
                named(name, mounts),
                everything=options.all,
                lazily=options.lazy,
                environ=context.environ,
            )
        )

    names = options.names
    if options.all:
        names = [mount.folder for _, mount in kept(context.environ)]
    try:
        each(context.console, names, end)
    finally:
        _tell(context, left)


def named(name: str, mounts: Sequence[Kept]) -> Kept:
    """The mount that a person means: by its folder, else by what is mounted there.

    Raises NotMounted, and UsageError where there are several.
    """
    from registryd.mounts.errors import NotMounted

    place = os.path.realpath(name)
    found = [mount for mount in mounts if mount.folder == place]
    if not found:
        images = {os.path.abspath(name)}
        with suppress(ReferenceInvalid):
            images.add(str(Reference.parse(name)))
        found = [mount for mount in mounts if mount.image in images]
    if not found:
        raise NotMounted(f"{name} is not mounted (registryctl mount lists what is)")
    if len(found) > 1:
        listed = ", ".join(mount.folder for mount in found)
        raise UsageError(f"{name} is mounted on {listed}: name the folder")
    return found[0]


def _tell(context: Context, left: Sequence[Kept]) -> None:
    if context.options.format == "json":
        mounts: list[dict[str, Any]] = [
            {"image": each.image, "folder": each.folder, "references": each.references}
            for each in left
        ]
        context.console.json({"unmounted": mounts})
        return
    for each in left:
        if not each.references:
            context.console.line(each.folder)
        elif not context.options.quiet:
            uses = "once" if each.references == 1 else f"{each.references} times"
            context.console.words(f"{each.folder} stays: it was mounted {uses} more")
