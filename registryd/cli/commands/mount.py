"""``mount``: an image as a read-only folder, until it is unmounted; or what is mounted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from registryd.cli import wording
from registryd.cli.arguments import (
    Parser,
    compat_flag,
    credential_flags,
    jobs_flag,
    plain_flag,
    platform_flag,
    tls_flags,
)
from registryd.cli.command import Context
from registryd.cli.tables import Column

if TYPE_CHECKING:
    from registryd.mounts.listing import Listed

COLUMNS = (
    Column("IMAGE"),
    Column("DIGEST"),
    Column("FOLDER"),
    Column("HOW"),
    Column("USES", right=True),
    Column("SINCE"),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "source",
        metavar="REF|FILE",
        nargs="?",
        default=None,
        help="an image, or a file (/..., ./..., *.sqsh, *.squashfs, *.sif); without: what is there",
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        default=None,
        help="where: an empty folder, or a new one (default: one of its own, which is printed)",
    )
    plain_flag(parser)
    compat_flag(parser)
    platform_flag(parser)
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Mount, and print the folder; or list what is mounted. Raises Fault."""
    if context.options.source is None:
        _list(context)
        return
    from registryd.cli.mounting import mountable
    from registryd.mounts.kept import keep

    folder = context.options.folder
    with mountable(context, context.options.source) as source:
        kept = keep(
            source.file,
            image=source.image,
            key=source.key,
            folder=None if folder is None else Path(folder),
            environ=context.environ,
        )
    if context.options.format == "json":
        context.console.json(
            {
                "image": source.image,
                "digest": source.digest,
                "folder": kept.folder,
                "how": kept.how,
                "references": kept.references,
            }
        )
        return
    context.console.line(kept.folder)


def _list(context: Context) -> None:
    from registryd.mounts.listing import listed

    found = listed(context.environ)
    if context.options.format == "json":
        context.console.json({"mounts": [_described(each) for each in found]})
    elif context.options.quiet:
        for each in found:
            context.console.line(each.folder)
    else:
        now = datetime.now(UTC)
        context.console.table(COLUMNS, [_row(each, now) for each in found])


def _moment(listed: Listed) -> str:
    return datetime.fromtimestamp(listed.since, UTC).isoformat()


def _described(listed: Listed) -> dict[str, object]:
    return {
        "image": listed.image,
        "blob": listed.key if listed.key.startswith("sha") else None,
        "folder": listed.folder,
        "how": listed.how,
        "kind": listed.kind,
        "references": listed.references,
        "since": _moment(listed),
    }


def _row(listed: Listed, now: datetime) -> list[str]:
    return [
        listed.image,
        wording.short(listed.key) if listed.key.startswith("sha") else "-",
        listed.folder,
        listed.how,
        str(listed.references),
        wording.ago(_moment(listed), now),
    ]
