"""Which token servers, and which other places, a registry may send us to.

Invariants:
- a password never goes over plain HTTP for a registry that is reached by TLS;
- a registry on the public internet cannot make us ask an address of the private network: the
  other way round is how clusters are built, and is allowed;
- for redirects and Locations that is judged by the looks of the target alone: a cloud's own names
  may well mean private addresses to whoever is inside (S3 by a VPC endpoint).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

from yarl import URL

from registryd.oci.errors import Denied
from registryd.remote.hosts import is_private

#: The addresses of a host's name; none when it does not resolve here (behind a proxy, say).
Lookup = Callable[[str], Awaitable[Iterable[str]]]


async def look_up(host: str) -> list[str]:
    """The addresses of a host by the system's resolver; empty when there are none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


async def check_realm(registry: URL, realm: URL, *, secret: bool, lookup: Lookup = look_up) -> None:
    """Raise Denied unless ``realm`` may be asked; ``secret`` says that a login goes along."""
    if realm.scheme not in ("http", "https") or not realm.host:
        raise Denied(f"{registry.authority} sends us to a token server that is not an http URL")
    if realm.host == registry.host and realm.scheme == registry.scheme:
        return
    if secret and realm.scheme == "http" and registry.scheme == "https":
        raise Denied(
            f"{registry.authority} wants its password sent in the clear to {realm.host}; refused"
        )
    if realm.host == registry.host or not await _private(realm, lookup):
        return
    if not await _private(registry, lookup):
        raise Denied(
            f"{registry.authority} is public, but sends us to {realm.host} for a token, "
            "which is on a private network; refused"
        )


async def check_target(asker: URL, target: URL, *, lookup: Lookup = look_up) -> None:
    """Raise Denied unless ``asker`` may send us to ``target`` by a redirect or Location."""
    if target.host == asker.host or not is_private(target.host or ""):
        return
    if not await _private(asker, lookup):
        raise Denied(
            f"{asker.authority} is public, but sends us to {target.host}, which is on a private"
            " network; refused"
        )


async def _private(url: URL, lookup: Lookup) -> bool:
    host = url.host or ""
    return is_private(host) or any(is_private(address) for address in await lookup(host))
