"""``cluster show``: whose certificates these are, which hosts they are for, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.errors import Partly, one_line
from registryd.cli.tables import Column
from registryd.cluster.errors import IdentityUnusable
from registryd.cluster.identity_files import (
    AUTHORITY_CERT,
    AUTHORITY_KEY,
    NODES,
    IdentityFiles,
    Shown,
    describe,
)
from registryd.hostlist import natural_order

COLUMNS = (Column("CLUSTER"), Column("NODE"), Column("HOSTS"), Column("UNTIL"), Column("STATE"))
#: A certificate that ends sooner is one to be made anew.
SOON = timedelta(days=30)
#: Hosts that a table names; JSON has all.
NAMED = 4


@dataclass(frozen=True, slots=True)
class Row:
    """A file, and what it shows."""

    path: Path
    shown: Shown

    def state(self, now: datetime) -> str:
        """How long it is good yet, in a word or two."""
        left = self.shown.until - now
        if left <= timedelta():
            return "ended"
        if now < self.shown.since:
            return "not yet"
        return f"ends in {left.days} days" if left < SOON else "good"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "path", metavar="DIR|FILE", help="the folder of a cluster or of a node, or a certificate"
    )


def run(context: Context) -> None:
    """Print what the certificates say. Raises IdentityUnusable; Partly when some cannot be read."""
    rows, now = [], datetime.now(UTC)
    paths = _certificates(Path(context.options.path))
    failures = []
    for path in paths:
        try:
            rows.append(Row(path, describe(path)))
        except IdentityUnusable as error:
            failures.append(error)
    if not rows:
        raise failures[0]
    if context.options.format == "json":
        context.console.json({"certificates": [_entry(row, now) for row in rows]})
    else:
        context.console.table(COLUMNS, [_cells(row, now) for row in rows])
    for failure in failures:
        context.console.words(f"registryctl: {one_line(failure)}")
    if failures:
        raise Partly(f"{len(failures)} of {len(paths)} certificates cannot be read")


def _certificates(path: Path) -> Sequence[Path]:
    """The files that are meant: the authority's and its nodes', a node's, or just the one."""
    if not path.is_dir():
        return [path]
    own = IdentityFiles.within(path).cert
    if own.exists() and not (path / AUTHORITY_KEY).exists():
        return [own]
    nodes = path / NODES
    names = sorted(
        (each.name for each in nodes.iterdir() if each.is_dir()) if nodes.is_dir() else (),
        key=natural_order,
    )
    return [path / AUTHORITY_CERT, *(IdentityFiles.within(nodes / name).cert for name in names)]


def _cells(row: Row, now: datetime) -> list[str]:
    shown = row.shown
    hosts = ",".join(shown.hosts[:NAMED]) or "-"
    if len(shown.hosts) > NAMED:
        hosts += f" +{len(shown.hosts) - NAMED}"
    node = "(authority)" if shown.node is None else shown.node
    return [shown.cluster, node, hosts, f"{shown.until:%Y-%m-%d}", row.state(now)]


def _entry(row: Row, now: datetime) -> dict[str, object]:
    shown = row.shown
    return {
        "file": str(row.path),
        "cluster": shown.cluster,
        "node": shown.node,
        "hosts": list(shown.hosts),
        "since": shown.since.isoformat(),
        "until": shown.until.isoformat(),
        "state": row.state(now),
    }
