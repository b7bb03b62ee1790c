"""The list of a registry's repositories (Docker Registry HTTP API V2, "Catalog").

Invariant: a registry that offers none says so in words that name the registry.
"""

from __future__ import annotations

from registryd.oci.challenge import EVERYTHING, Scope
from registryd.oci.errors import (
    Denied,
    ManifestUnknown,
    NameUnknown,
    ReferenceInvalid,
    RegistryError,
    Unsupported,
)
from registryd.oci.reference import check_repository
from registryd.oci.routes import Catalog
from registryd.remote.exchange import Call, Exchange
from registryd.remote.tag_pages import chosen, read_pages

#: What a token for the list is called (token specification, "Resource Scope Grammar").
CATALOG = Scope("registry", "catalog", frozenset({EVERYTHING}))


async def list_repositories(
    exchange: Exchange, *, last: str = "", limit: int | None = None
) -> list[str]:
    """The repositories after ``last``, at most ``limit``; all by default.

    Raises Unsupported where the registry has no such list, Denied where it is not for us, and as
    ``Exchange.send`` does.
    """
    what = f"cannot list the repositories of {exchange.registry}"
    call = Call("GET", Catalog().path(), what, "", (CATALOG,))
    try:
        found = await read_pages(exchange, call, "repositories", last=last, limit=limit)
    except (NameUnknown, ManifestUnknown, Unsupported) as error:
        raise _not_offered(exchange.registry, error) from error
    return chosen(filter(_is_repository, found), last, limit)


def _not_offered(registry: str, error: RegistryError) -> RegistryError:
    """The error in the words of a list: what is "not found" here is the list itself."""
    refused = Denied if error.status in (401, 403) else Unsupported
    hint = "many registries, Docker Hub among them, offer no such list, or only to administrators"
    said = refused(f"{registry} does not list its repositories for us ({hint})")
    said.status, said.entries = error.status, error.entries
    return said


def _is_repository(text: str) -> bool:
    try:
        check_repository(text)
    except ReferenceInvalid:
        return False
    return True
