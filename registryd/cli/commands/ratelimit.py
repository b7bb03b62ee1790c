"""``ratelimit``: how many more requests a registry allows us."""

from __future__ import annotations

import re
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.errors import RateLimited
from registryd.oci.reference import Reference

#: What Docker Hub has to be asked for, where nothing else is: its documentation says so.
PREVIEW = {"docker.io": "docker.io/ratelimitpreview/test:latest"}
#: A registry by itself: a name with a dot or a port, or localhost, and no slash but at its end.
REGISTRY = re.compile(r"(?:[^/:@]+\.[^/:@]+|localhost)(?::[0-9]+)?/?|[^/:@]+:[0-9]+/")


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "reference",
        metavar="REF|REGISTRY",
        nargs="?",
        default="docker.io",
        help="an image, or a registry (default: docker.io)",
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print what is allowed and left. Raises Fault; RateLimited where nothing is left."""
    from registryd.cli.logins import login_for

    registry, repository, asked = _meant(context.options.reference)
    login = login_for(context, registry, repository)
    with backend(context, registry) as chosen:
        result = chosen.call("ratelimit", {"reference": asked}, login)
    if context.options.format == "json":
        context.console.json(result)
    else:
        context.console.facts(_facts(result))
    if result.get("remaining") == 0:
        raise RateLimited(
            f"{registry} allows no more requests now; wait, or log in to be allowed more"
        )


def _meant(text: str) -> tuple[str, str, str]:
    """Registry, repository, and what is asked for, of an image or of a registry alone."""
    if not REGISTRY.fullmatch(text):
        reference = Reference.parse(text)
        return reference.registry, reference.repository, str(reference)
    registry = Reference.parse(f"{text.rstrip('/')}/any").registry
    if registry in PREVIEW:
        return _meant(PREVIEW[registry])
    return registry, "", f"{registry}/"


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("registry", str(result.get("registry"))),
        ("account", str(result.get("account") or "none (asked without a login)")),
    ]
    limit, remaining = result.get("limit"), result.get("remaining")
    if limit is None and remaining is None:
        return [*facts, ("limit", "the registry does not say")]
    window = result.get("window_seconds")
    per = f" in {wording.span(window)}" if window else ""
    return [
        *facts,
        ("limit", "-" if limit is None else f"{limit}{per}"),
        ("remaining", "-" if remaining is None else str(remaining)),
        ("source", str(result.get("source") or "-")),
    ]
