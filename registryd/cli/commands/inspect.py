"""``inspect``: what an image is, in the words of skopeo; or its manifest or config as they are.

A name that the cache holds needs no network: the operations behind decide that. One that is written
``docker://NAME`` means the registry: its tags are listed then, as skopeo lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.errors import Fault
from registryd.cli import go_template
from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.described import Parts, described, from_backend, from_file, json_object
from registryd.cli.platforms import single, single_preferred
from registryd.oci.reference import Reference
from registryd.secrets import Login

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation

#: --format takes a template here.
TEMPLATES = ("-f", "--format")
REGISTRY = "docker://"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="[docker://]NAME, oci:DIR[:TAG], dir:DIR, oci-archive:FILE, docker-archive:FILE",
    )
    parser.add_argument(
        "--raw", action="store_true", default=False, help="the manifest's bytes, no more"
    )
    parser.add_argument(
        "--config", action="store_true", default=False, help="the image's configuration"
    )
    parser.add_argument(
        "-n", "--no-tags", action="store_true", default=False, help="do not list the tags"
    )
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print what was asked for. Raises Fault."""
    from registryd.images.transports import ImageLocation

    go_template.check_format(context.options.format)
    location = ImageLocation.parse(context.options.image)
    if location.reference is None:
        _inspect_file(context, location)
    else:
        _inspect_name(context, location.reference)


def _inspect_file(context: Context, location: ImageLocation) -> None:
    from registryd.cli.direct import run as do

    parts = do(from_file(context, location, single_preferred(context)))
    if context.options.raw and not context.options.config:
        chosen = parts.manifest if single(context) else parts.root
        context.console.raw(chosen.content)
    else:
        _print(context, parts, "", [])


def _inspect_name(context: Context, reference: Reference) -> None:
    from registryd.cli.logins import login_for

    options = context.options
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        if options.config:
            wanted = {"reference": str(reference), "platform": single_preferred(context)}
            config = chosen.raw("config", wanted, login)
            _print(context, Parts(config, config, config), str(reference), [])
            return
        if options.raw:
            wanted = {"reference": str(reference), "platform": single(context)}
            context.console.raw(chosen.raw("manifest", wanted, login).content)
            return
        parts = from_backend(chosen, reference, single_preferred(context), login)
        _print(context, parts, reference.name, _tags(context, chosen, reference, login))


def _tags(
    context: Context, chosen: Backend, reference: Reference, login: Login | None
) -> list[str]:
    """The repository's tags, where the registry was named as such and lists them."""
    own = [reference.tag] if reference.tag else []
    if context.options.no_tags or not context.options.image.startswith(REGISTRY):
        return own
    try:
        return list(chosen.call("tags", {"repository": reference.name}, login)["tags"])
    except Fault as fault:
        context.console.words(f"warning: the tags are not listed: {fault}")
        return own


def _print(context: Context, parts: Parts, name: str, tags: list[str]) -> None:
    options, console = context.options, context.console
    if options.config and options.raw:
        console.raw(parts.config.content)
        return
    if options.config:
        result = json_object(parts.config, f"config of {options.image}")
    else:
        result = described(parts, name, tags)
    if go_template.is_template(options.format):
        console.text(go_template.rendered(options.format, result))
    else:
        console.json(result)
