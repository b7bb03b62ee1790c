"""``manifest diff``: two manifests side by side, by what they say and not by how it is written."""

from __future__ import annotations

import json

from cache.errors import Fault
from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import Raw
from registryd.cli.command import Context
from registryd.cli.commands.manifest import fetched


class ManifestsDiffer(Fault):
    """Raised when two manifests are not the same; what differs has been printed."""


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("one", metavar="REF")
    parser.add_argument("other", metavar="REF2")
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print a unified diff of the two, members in order of their names; -q prints nothing.

    Raises ManifestsDiffer (exit code 1, as ``diff`` has it), Fault.
    """
    from difflib import unified_diff

    options, console = context.options, context.console
    names = (options.one, options.other)
    one, other = (fetched(context, name) for name in names)
    differences = list(unified_diff(_lines(one), _lines(other), *names, lineterm=""))
    same = one.digest == other.digest
    if options.format == "json":
        console.json(
            {
                "references": list(names),
                "digests": [one.digest, other.digest],
                "same": same,
                "diff": differences,
            }
        )
    elif not options.quiet:
        for line in differences:
            console.line(line)
    if not same:
        how = "differ" if differences else "say the same in other bytes"
        raise ManifestsDiffer(f"{names[0]} and {names[1]} {how}")


def _lines(answer: Raw) -> list[str]:
    """A manifest with one member a line; what is no JSON as it came."""
    try:
        return json.dumps(json.loads(answer.content), indent=2, sort_keys=True).splitlines()
    except ValueError:
        return answer.content.decode(errors="replace").splitlines()
