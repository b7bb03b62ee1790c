"""``cluster add``: identities for nodes, each in a folder that is copied to its node."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from registryd.cli.arguments import Parser, count
from registryd.cli.command import Context
from registryd.cluster.errors import IdentityUnusable
from registryd.cluster.identity import NODE_DAYS, Identity, node_host
from registryd.cluster.identity_files import (
    AUTHORITY_KEY,
    NODES,
    IdentityFiles,
    read_authority,
    write_identity,
)
from registryd.hostlist import expand, fold, natural_order
from registryd.oci.errors import UsageError

#: Where the words for people put a node's files on that node.
THERE = Path("/etc/registryd/cluster")


@dataclass(frozen=True, slots=True)
class Made:
    """A node's new identity, and the folder that has it."""

    identity: Identity
    folder: Path


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", metavar="DIR", help="the folder of cluster init")
    parser.add_argument("hosts", metavar="HOST", nargs="+", help='nodes: n1, or a list "n[1-64]"')
    parser.add_argument(
        "--address",
        metavar="LIST",
        default="",
        help="more names or addresses: all of the one HOST, or one for each HOST in their order",
    )
    parser.add_argument(
        "--days",
        type=count,
        metavar="N",
        default=NODE_DAYS,
        help="the certificates end after so many days (default: %(default)s)",
    )


def run(context: Context) -> None:
    """Make the identities, all or (where one is there already) none, and say what comes next.

    Raises UsageError, IdentityUnusable, DiskFull.
    """
    options = context.options
    folder = Path(options.folder)
    authority = read_authority(folder)
    wanted = _wanted(options.hosts, options.address)
    _check_new([folder / NODES / name for name in wanted])
    made = []
    for name, more in wanted.items():
        identity = authority.issue(name, more, now=datetime.now(UTC), days=options.days)
        write_identity(folder / NODES / name, identity, authority)
        made.append(Made(identity, folder / NODES / name))
    if options.format == "json":
        context.console.json({"cluster": authority.cluster, "nodes": [_entry(one) for one in made]})
    else:
        for one in made:
            context.console.line(str(one.folder))
    if not options.quiet:
        _explain(context, folder, made)


def _wanted(lists: Sequence[str], addresses: str) -> dict[str, tuple[str, ...]]:
    """Each node by its name, and what else it answers to. Raises UsageError."""
    names = tuple(dict.fromkeys(node_host(name) for text in lists for name in expand(text)))
    more = tuple(node_host(name) for name in expand(addresses)) if addresses.strip() else ()
    if not more:
        return dict.fromkeys(names, ())
    if len(names) == 1:
        return {names[0]: more}
    if len(more) != len(names):
        raise UsageError(
            f"--address has {len(more)} for {len(names)} nodes: give one for each, in their order"
        )
    return {name: (address,) for name, address in zip(names, more, strict=True)}


def _check_new(folders: Sequence[Path]) -> None:
    there = [folder for folder in folders if os.path.lexists(folder)]
    if there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise IdentityUnusable(
            f"{there[0]}{more}: is there already, and is never written over; for a new certificate"
            " of the same node remove this folder first"
        )


def _entry(one: Made) -> dict[str, object]:
    member, files = one.identity.member, IdentityFiles.within(one.folder)
    return {
        "node": member.name,
        "hosts": list(member.hosts),
        "until": member.until.isoformat(),
        "ca_file": str(files.ca_file),
        "cert": str(files.cert),
        "key": str(files.key),
    }


def _explain(context: Context, folder: Path, made: Sequence[Made]) -> None:
    """What to copy where, and what to write into each node's configuration."""
    words = context.console.words
    everyone = sorted((each.name for each in (folder / NODES).iterdir()), key=natural_order)
    there = IdentityFiles.within(THERE)
    copied = "NODE" if len(made) > 1 else made[0].identity.member.name
    words(f"Good until {made[0].identity.member.until:%Y-%m-%d}.")
    words(f"Copy the files in {folder / NODES / copied}/ to {THERE}/ on {copied}; the key is for")
    words("the daemon's user alone (chown registryd, mode 0600). Then, the same on every node:")
    words("")
    words("  [cluster]")
    for key in ("ca_file", "cert", "key"):
        words(f'  {key} = "{getattr(there, key)}"')
    words(f'  peers = ["{fold(map(_bracketed, everyone))}"]')
    words('  # in place of peers, where there is a NATS server: nats = ["nats://HOST:4222"]')
    words("")
    words(f"and restart registryd. {folder / AUTHORITY_KEY} stays where it is.")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
