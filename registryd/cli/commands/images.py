"""``images``: what the cache holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

COLUMNS = (
    Column("NAME"),
    Column("TAG"),
    Column("DIGEST"),
    Column("PLATFORM"),
    Column("SIZE", right=True),
    Column("OWN", right=True),
    Column("LAST USED"),
    Column("PINNED"),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--no-trunc", action="store_true", default=False, help="whole digests in the table"
    )


def run(context: Context) -> None:
    """List the images: a table, JSON, or with -q digests. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("images", {})
    images = result.get("images", [])
    if context.options.format == "json":
        context.console.json(result)
    elif context.options.quiet:
        for digest in dict.fromkeys(image["digest"] for image in images):
            context.console.line(digest)
    else:
        now = datetime.now(UTC)
        rows = [_row(image, now, whole=context.options.no_trunc) for image in images]
        context.console.table(COLUMNS, rows)


def _row(image: dict[str, Any], now: datetime, *, whole: bool) -> list[str]:
    digest = str(image.get("digest") or "")
    return [
        str(image.get("name") or "-"),
        str(image.get("tag") or "-"),
        digest if whole else wording.short(digest),
        wording.some(image.get("platforms") or []),
        wording.size(image.get("size") or 0),
        wording.size(image.get("own_size") or 0),
        wording.ago(str(image.get("last_used") or ""), now),
        "yes" if image.get("pinned") else "",
    ]
