"""``manifest delete``: a manifest by its digest, with all its tags."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.commands import delete
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    delete.common_arguments(parser)
    parser.add_argument(
        "-f",
        "--force",
        "--force-tag-dereference",
        action="store_true",
        default=False,
        help="take a tag too: the manifest that it means goes, with all its tags",
    )


def run(context: Context) -> None:
    """Delete it; NAME@DIGEST on stdout. Raises UsageError for a tag without --force, Fault."""
    options = context.options
    reference = Reference.parse(options.reference)
    if reference.digest is None and not options.force:
        raise UsageError(
            f"{reference} is a tag: write NAME@DIGEST, or --force to delete the manifest it means"
            f" with all its tags (registryctl delete --tag-only takes away the tag alone)"
        )
    options.tag_only = False
    delete.run(context)
