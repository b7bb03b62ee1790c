"""How many more requests a registry allows: asked of it, in a way that it does not count."""

from __future__ import annotations

from registryd.access import Caller
from registryd.notices import RateLimit
from registryd.oci.reference import Reference
from registryd.operations.node import Node, Result
from registryd.secrets import NOBODY, Login


class Allowances:
    """The allowances of registries. Every method raises Faults only."""

    _node: Node

    async def ratelimit(
        self, reference: str, *, login: Login | None = None, principal: str = ""
    ) -> Result:
        """What a registry allows who asks; an image, or a registry and a slash (``ghcr.io/``).

        ``limit`` and ``remaining`` are null where it does not say; as whom this node logs in is
        shown to its owner alone.
        """
        if reference.endswith("/"):
            registry, name = reference.removesuffix("/"), None
            own = NOBODY if principal and login is None else login
            remote = self._node.remotes.remote(registry, own)
        else:
            name = Reference.parse(reference)
            registry = name.registry
            admitted = await self._node.access.admit(
                Caller(principal, login), name, lambda remote: remote.resolve(name), proves=False
            )
            remote = admitted or self._node.remotes.remote(registry, login)
        account, found = await remote.rate_limit(name)
        shown = "" if principal and login is None else account
        return {"registry": registry, **described(shown, found)}


def described(account: str, found: RateLimit | None) -> Result:
    """An allowance as the API shows it; times in seconds."""
    shown = found or RateLimit()
    return {
        "account": account,
        "limit": shown.limit,
        "remaining": shown.remaining,
        "window_seconds": shown.window,
        "source": shown.source,
    }
