"""``catalog``: the repositories of a registry, one a line."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.own_names import OWN_REGISTRY
from registryd.cli.selection import check_patterns, list_flags, pages, selected


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "registry",
        metavar="REGISTRY[/NAMESPACE]",
        help=f"its name; {OWN_REGISTRY} is the node's own; with a namespace what is below it",
    )
    parser.add_argument("--full-ref", action="store_true", default=False, help="print whole names")
    list_flags(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the repositories. Raises Fault."""
    from registryd.cli.logins import login_key

    options = context.options
    check_patterns(options)
    registry, _, above = login_key(options.registry.removeprefix("docker://")).partition("/")
    names = _own(context) if registry == OWN_REGISTRY else None
    if names is None:
        names = _listed(context, registry, whole=not above)
    found = selected((name for name in names if not above or name.startswith(f"{above}/")), options)
    if options.format == "json":
        context.console.json({"registry": registry, "repositories": found})
        return
    for name in found:
        context.console.line(f"{registry}/{name}" if options.full_ref else name)


def _own(context: Context) -> list[str] | None:
    """The repositories of a cache without a daemon; None where a daemon is to be asked."""
    with backend(context) as chosen:
        if chosen.socket is not None:
            return None
        images = chosen.call("images", {}).get("images", [])
    names = {str(image.get("name")) for image in images}
    own = f"{OWN_REGISTRY}/"
    listed = sorted(name.removeprefix(own) for name in names if name.startswith(own))
    return [name for name in listed if name > context.options.last]


def _listed(context: Context, registry: str, *, whole: bool) -> list[str]:
    """The repositories of a registry; not ``whole``: a limit counts only some of them."""
    from registryd.cli.direct import open_registry
    from registryd.cli.direct import run as do

    wanted = pages(context.options)
    limit = int(wanted["limit"]) if whole and "limit" in wanted else None

    async def ask() -> list[str]:
        async with open_registry(context, registry) as remote:
            return await remote.catalog(last=context.options.last, limit=limit)

    return do(ask())
