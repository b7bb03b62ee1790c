"""``jobs``: the jobs that bring images to nodes, or the nodes of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.commands.prefetch import folded
from registryd.cli.tables import Column

COLUMNS = (
    Column("JOB"),
    Column("IMAGES"),
    Column("ON"),
    Column("DONE", right=True),
    Column("FAILED", right=True),
    Column("NODES", right=True),
    Column("HERE", right=True),
    Column("OF", right=True),
    Column("BEGUN"),
    Column("ENDS"),
    Column("STATE"),
)
NODE_COLUMNS = (
    Column("NODE"),
    Column("STATE"),
    Column("HERE", right=True),
    Column("OF", right=True),
    Column("BLOBS", right=True),
    Column("SECONDS", right=True),
    Column("ERROR"),
)
NOTHING = "there are no jobs"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("job", metavar="ID", nargs="?", default=None)


def run(context: Context) -> None:
    """Show the jobs, or the nodes of one. Raises Fault."""
    console, options = context.console, context.options
    with backend(context) as chosen:
        if options.job is not None:
            result = chosen.call("job", {"id": options.job})
        else:
            result = chosen.call("jobs", {})
    if options.format == "json":
        console.json(result)
    elif options.job is not None:
        _show_job(context, result)
    elif options.quiet:
        for job in result.get("jobs") or []:
            console.line(str(job.get("id")))
    elif jobs := result.get("jobs"):
        now = datetime.now(UTC)
        console.table(COLUMNS, [_row(job, now) for job in jobs])
    else:
        console.words(NOTHING)


def _row(job: Mapping[str, Any], now: datetime) -> list[str]:
    nodes = job.get("nodes") or {}
    names = [str(image.get("reference")) for image in job.get("images") or []]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return [
        str(job.get("id")),
        (names[0] if names else "-") + more,
        str(job.get("on")),
        *(str(nodes.get(key, "-")) for key in ("done", "failed", "all")),
        wording.size(nodes.get("bytes") or 0),
        wording.size(nodes.get("total") or 0),
        wording.ago(str(job.get("created") or ""), now),
        _ahead(str(job.get("until") or ""), now),
        str(job.get("state")),
    ]


def _ahead(moment: str, now: datetime) -> str:
    """How long after ``now`` a time is."""
    try:
        seconds = (datetime.fromisoformat(moment) - now).total_seconds()
    except (TypeError, ValueError):
        return moment or "-"
    return f"in {wording.span(seconds)}" if seconds > 0 else wording.ago(moment, now)


def _show_job(context: Context, job: Mapping[str, Any]) -> None:
    console, now = context.console, datetime.now(UTC)
    if context.options.quiet:
        for node in job.get("standings") or []:
            console.line(str(node.get("node")))
        return
    images = [
        (f"image {at}", f"{image.get('reference')} is {image.get('digest')}")
        for at, image in enumerate(job.get("images") or [], 1)
    ]
    console.facts(
        [
            ("job", str(job.get("id"))),
            ("state", str(job.get("state"))),
            ("on", str(job.get("on"))),
            ("begun", wording.ago(str(job.get("created") or ""), now)),
            ("ends", _ahead(str(job.get("until") or ""), now)),
            *images,
        ]
    )
    if nodes := job.get("standings"):
        console.table(NODE_COLUMNS, [_node_row(node) for node in nodes])
    if silent := job.get("silent"):
        console.words(f"no word yet of {folded(silent)}")


def _node_row(node: Mapping[str, Any]) -> list[str]:
    return [
        str(node.get("node")),
        str(node.get("state")),
        wording.size(node.get("bytes") or 0),
        wording.size(node.get("total") or 0),
        str(node.get("blobs") or 0),
        f"{float(node.get('seconds') or 0):.1f}",
        str(node.get("error") or "-"),
    ]
