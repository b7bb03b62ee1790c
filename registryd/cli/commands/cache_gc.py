"""``cache gc``: what goes from the cache so that there is room, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

COLUMNS = (
    Column("GOES"),
    Column("DIGEST"),
    Column("FREES", right=True),
    Column("LAST USED"),
    Column("WHY"),
)
STAYS = (Column("STAYS"), Column("DIGEST"), Column("LAST USED"), Column("WHY"))


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=False,
        help="say what would go and why, and change nothing",
    )
    parser.add_argument(
        "--free",
        metavar="SIZE",
        default=None,
        help="bytes to make free, as 20GiB, in place of going down to the cache's low mark",
    )


def run(context: Context) -> None:
    """Collect, and print what has gone. Raises Fault."""
    options = context.options
    asked = {"dry_run": options.dry_run} | ({"free": options.free} if options.free else {})
    with backend(context) as chosen:
        result = chosen.call("gc", asked)
    if options.format == "json":
        context.console.json(result)
        return
    now = datetime.now(UTC)
    going, staying = result.get("going") or [], result.get("staying") or []
    if going:
        context.console.table(COLUMNS, [_going(each, now) for each in going])
    if options.dry_run and staying:
        context.console.table(STAYS, [_staying(each, now) for each in staying])
    word = "would be freed" if options.dry_run else "freed"
    context.console.line(f"{wording.size(result.get('freed') or 0)} {word}")


def _going(verdict: Mapping[str, Any], now: datetime) -> list[str]:
    names, digest, *rest = _staying(verdict, now)
    return [names, digest, wording.size(verdict.get("size") or 0), *rest]


def _staying(verdict: Mapping[str, Any], now: datetime) -> list[str]:
    names = ", ".join(verdict.get("references") or ["-"])
    digest = wording.short(str(verdict.get("digest")))
    used = wording.ago(str(verdict.get("last_used")), now)
    return [names, digest, used, str(verdict.get("why"))]
