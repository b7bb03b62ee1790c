"""``cluster init``: the authority of a new cluster, in a folder of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from registryd.cli.arguments import Parser, count
from registryd.cli.command import Context
from registryd.cluster.identity import AUTHORITY_DAYS, Authority
from registryd.cluster.identity_files import AUTHORITY_KEY, write_authority

#: What a cluster is called by those who have only one.
NAME = "registryd"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", metavar="DIR", help="a folder that is not there yet")
    parser.add_argument(
        "--name",
        metavar="CLUSTER",
        default=NAME,
        help=f"what the cluster is called: lower-case letters, digits and dashes (default: {NAME})",
    )
    parser.add_argument(
        "--days",
        type=count,
        metavar="N",
        default=AUTHORITY_DAYS,
        help="the authority ends after so many days (default: %(default)s)",
    )


def run(context: Context) -> None:
    """Make the authority, and say what comes next. Raises UsageError, IdentityUnusable."""
    options, console = context.options, context.console
    folder = Path(options.folder)
    authority = Authority.make(options.name, now=datetime.now(UTC), days=options.days)
    write_authority(folder, authority)
    until = authority.certificate.not_valid_after_utc
    if options.format == "json":
        console.json(
            {"folder": str(folder), "cluster": authority.cluster, "until": until.isoformat()}
        )
    else:
        console.line(str(folder))
    if options.quiet:
        return
    console.words(f"The cluster {authority.cluster} has an authority until {until:%Y-%m-%d}.")
    console.words(f"Whoever has {folder / AUTHORITY_KEY} can make members: keep {folder} here,")
    console.words("and copy to nodes only what this makes for each of them:")
    console.words(f'  registryctl cluster add {folder} "n[1-64]"')
