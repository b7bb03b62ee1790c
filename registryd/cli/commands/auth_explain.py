"""``auth explain``: which credential is used for a name, where it is kept, and why that one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cache.errors import Fault
from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.command import Context
from registryd.oci.reference import Reference
from registryd.secrets import Login

if TYPE_CHECKING:
    from registryd.remote.credentials import Looked


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "--check",
        action="store_true",
        default=False,
        help="ask the registry for the image with it, and tell what it says",
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Tell it, without a secret. Raises Fault; with --check also what the registry says."""
    reference = Reference.parse(context.options.reference)
    looked, order, login = _look(context, reference)
    result: dict[str, Any] = {
        "reference": str(reference),
        "registry": reference.registry,
        "login": None if login is None else _described(login, looked),
        "places": [
            {"place": each.place, "found": each.found, "used": each.login is not None}
            for each in looked
        ]
        + [{"place": name, "found": "not looked at", "used": False} for name in order],
    }
    refused = None
    if context.options.check:
        result["check"], refused = asyncio.run(_check(context, reference, login))
    _show(context, result)
    if refused is not None:
        raise refused


def _look(context: Context, reference: Reference) -> tuple[list[Looked], list[str], Login | None]:
    """What was looked at, the places for which there was no need, and the login. Raises Fault."""
    from registryd.cli.logins import files, login_for
    from registryd.remote.credentials import Looked

    options = context.options
    if options.no_creds or options.creds is not None:
        login = login_for(context, reference.registry, reference.repository)
        flag = "--no-creds" if login is None else "--creds"
        found = "no login is wanted" if login is None else "given on the command line"
        return [Looked(flag, found, login=login)], [], login
    chosen = files(context)
    looked: list[Looked] = []
    for each in chosen.look(reference.registry, reference.repository):
        looked.append(each)
        if each.login is not None:
            break
    if not looked or looked[-1].login is None:
        looked.append(_configured(context, reference.registry))
    return looked, chosen.order[len(looked) :], looked[-1].login


def _configured(context: Context, registry: str) -> Looked:
    """What the user's own configuration says, which counts where no daemon does the work."""
    from registryd.cli.settings import settings
    from registryd.places import user_places
    from registryd.remote.credentials import Looked
    from registryd.remote.logins import configured_login

    place = str(user_places(context.environ, context.home).config)
    config = settings(context).registries.get(registry)
    login = None if config is None else configured_login(config)
    if login is None:
        return Looked(place, f"no username for {registry}")
    return Looked(place, "username and password_file", key=f'registries."{registry}"', login=login)


def _described(login: Login, looked: list[Looked]) -> dict[str, str]:
    used = looked[-1]
    kind = "identity token" if login.identity_token else "password"
    return {
        "username": login.username,
        "kind": kind,
        "place": used.place,
        "key": used.key,
        "helper": used.helper,
        "origin": login.origin,
    }


async def _check(
    context: Context, reference: Reference, login: Login | None
) -> tuple[dict[str, Any], Fault | None]:
    """What the registry asks for and says, and the error if it says no."""
    from registryd.cli.remotes import open_remotes
    from registryd.remote.client import RegistryClient
    from registryd.secrets import NOBODY

    # As one that was given: what is asked is whether this login does, not whether none is needed.
    shown = NOBODY if login is None else replace(login, stored=False)
    refused: Fault | None = None
    async with open_remotes(context, reference.registry) as remotes:
        remote = remotes.remote(reference.registry, shown)
        try:
            # Of the registry itself: what a mirror gives says nothing of this login.
            said = f"it is {(await remote.standing(reference)).digest}"
        except Fault as error:
            refused, said = error, str(error)
        result: dict[str, Any] = {"admitted": refused is None, "said": said}
        if isinstance(remote, RegistryClient):
            asked = remote.asks(reference)
            result |= {
                "scheme": asked.scheme,
                "realm": asked.realm,
                "service": asked.service,
                "scopes": list(asked.scopes),
            }
    return result, refused


def _show(context: Context, result: dict[str, Any]) -> None:
    from registryd.cli.tables import Column

    console = context.console
    if context.options.format == "json":
        console.json(result)
        return
    login, check = result["login"], result.get("check")
    facts = [("name", result["reference"]), ("login", "none: as anybody")]
    if login is not None:
        who = f"user {login['username']}, by {login['kind']}"
        facts = [facts[0], ("login", who if login["username"] else f"by {login['kind']}")]
        facts += [(name, login[name]) for name in ("place", "key", "helper") if login[name]]
    if check is not None:
        facts.append(("it asks for", check.get("scheme") or "nothing"))
        facts += [(name, check[name]) for name in ("realm", "service") if check.get(name)]
        facts += [("scope", scope) for scope in check.get("scopes", ())]
        facts.append(("it says", check["said"] if check["admitted"] else "no"))
    console.facts(facts)
    console.line("")
    rows = [
        ("->" if each["used"] else "", each["place"], each["found"]) for each in result["places"]
    ]
    console.table((Column(""), Column("LOOKED AT"), Column("FOUND")), rows)
