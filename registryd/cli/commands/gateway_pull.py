"""``gateway pull``: an image made one and kept by the node's gateway."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags
from registryd.cli.command import Context
from registryd.cli.gateway import (
    check_wait,
    gateway,
    image_argument,
    sharing_flags,
    tell_end,
    teller,
    words_of,
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    image_argument(parser)
    sharing_flags(parser)
    credential_flags(parser)


def run(context: Context) -> None:
    """Pull; the id on stdout when it is READY. Raises Fault, also where the import fails."""
    from registryd.cli.logins import login_for
    from registryd.oci.reference import Reference

    options = context.options
    check_wait(context)
    text = options.image.removeprefix("docker:")
    with gateway(context) as chosen:
        reference = Reference.parse(text) if not text.startswith(("custom:", "id:")) else None
        login = None
        if reference is not None:
            login = login_for(context, reference.registry, reference.repository)
        wanted = {
            "registry": reference.registry if reference is not None and login else "",
            "image": options.image,
            "users": words_of(options.user),
            "groups": words_of(options.group),
            "wait": options.wait,
        } | ({} if options.timeout is None else {"timeout": options.timeout})
        done = chosen.stream("gateway_pull", wanted, teller(context), login)
    tell_end(context, done)
