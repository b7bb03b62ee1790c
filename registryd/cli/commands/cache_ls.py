"""``cache ls``: the blobs that the cache holds, the largest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

COLUMNS = (
    Column("DIGEST"),
    Column("KIND"),
    Column("SIZE", right=True),
    Column("IMAGES", right=True),
    Column("LAST USED"),
)
#: What a media type has in it, and what such a blob is called here.
KINDS = (
    ("index", "index"),
    ("manifest.list", "index"),
    ("manifest", "manifest"),
    ("config", "config"),
    ("container.image", "config"),
    ("layer", "layer"),
    ("rootfs", "layer"),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--no-trunc", action="store_true", default=False, help="whole digests in the table"
    )


def run(context: Context) -> None:
    """List the blobs: a table, JSON, or with -q digests. Raises Fault."""
    options, console = context.options, context.console
    with backend(context) as chosen:
        result = chosen.call("blobs", {})
    blobs = sorted(result.get("blobs", []), key=lambda blob: (-blob["size"], blob["digest"]))
    if options.format == "json":
        console.json({"blobs": blobs})
    elif options.quiet:
        for blob in blobs:
            console.line(str(blob["digest"]))
    else:
        now = datetime.now(UTC)
        console.table(COLUMNS, [_row(blob, now, whole=options.no_trunc) for blob in blobs])


def _row(blob: dict[str, Any], now: datetime, *, whole: bool) -> list[str]:
    digest, media_type = str(blob["digest"]), str(blob.get("media_type"))
    return [
        digest if whole else wording.short(digest),
        next((kind for part, kind in KINDS if part in media_type), "blob"),
        wording.size(blob["size"]),
        str(len(blob.get("images") or [])),
        wording.ago(str(blob.get("last_used") or ""), now),
    ]
