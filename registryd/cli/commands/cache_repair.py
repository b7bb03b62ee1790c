"""``cache repair``: the cache's index compared with its blobs, and put right."""

from __future__ import annotations

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

COLUMNS = (Column("WHAT"), Column("OF"), Column("WHY"))


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=False,
        help="say what differs, and change nothing",
    )


def run(context: Context) -> None:
    """Repair, and print what was done. Raises Fault."""
    dry_run = context.options.dry_run
    with backend(context) as chosen:
        result = chosen.call("repair", {"dry_run": dry_run})
    if context.options.format == "json":
        context.console.json(result)
        return
    changes = result.get("changes") or []
    if changes:
        rows = [[str(each.get(key, "-")) for key in ("what", "of", "why")] for each in changes]
        context.console.table(COLUMNS, rows)
    words = wording.counted(len(changes), "change") + (" would be made" if dry_run else "")
    held = wording.counted(int(result.get("blobs") or 0), "blob")
    manifests = wording.counted(int(result.get("manifests") or 0), "manifest")
    context.console.line(f"{held}, {manifests}: {words}")
