"""``tags``: the tags of a repository, or what the images of a file are called; one a line."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.selection import check_patterns, list_flags, pages, selected
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference

FILES = ("oci:", "ocidir://", "oci-archive:", "docker-archive:")


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "repository",
        metavar="REPOSITORY",
        help="a name without tag; oci:DIR, oci-archive:FILE or docker-archive:FILE",
    )
    parser.add_argument("--full-ref", action="store_true", default=False, help="print NAME:TAG")
    list_flags(parser)
    parser.add_argument(
        "-O",
        "--omit-digest-tags",
        "--exclude-digest-tags",
        action="store_true",
        default=False,
        help="without those like sha256-0123..., which belong to other images",
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the tags. Raises Fault."""
    from registryd.cli.logins import login_for

    options = context.options
    check_patterns(options)
    if options.repository.startswith(FILES):
        _list_file(context)
        return
    repository = Reference.parse(options.repository, default_tag=None)
    if repository.target:
        raise UsageError(f"{options.repository} has a tag or digest (use {repository.name})")
    login = login_for(context, repository.registry, repository.repository)
    with backend(context, repository.registry) as chosen:
        asked = {"repository": repository.name, **pages(options)}
        result = chosen.call("tags", asked, login)
    tags = selected(result.get("tags", []), options)
    if options.format == "json":
        context.console.json({**result, "tags": tags})
        return
    for tag in tags:
        context.console.line(f"{repository.name}:{tag}" if options.full_ref else tag)


def _list_file(context: Context) -> None:
    """Print what the images of a layout or archive are called. Raises Fault."""
    from registryd.cli.direct import run as do

    options, console = context.options, context.console
    found = [name for name in do(_names(context)) if name > options.last]
    names = selected(found, options)
    if options.format == "json":
        console.json({"name": options.repository, "tags": names})
        return
    for name in names:
        console.line(f"{options.repository}:{name}" if options.full_ref else name)


async def _names(context: Context) -> list[str]:
    from registryd.cli.ends import spool_folder
    from registryd.images.collection import ImageFile, open_images

    file = ImageFile.parse(context.options.repository)
    async with open_images(file, spool=spool_folder(context.environ)) as images:
        names = {name.familiar() for image in images for name in image.names}
        return sorted(names | {tag for image in images for tag in image.tags})
