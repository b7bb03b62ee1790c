"""How many bytes a second may pass: shown, and changed until the next restart or reload.

Invariant: everybody may see the limits; only root and the daemon's own user change them.
"""

from __future__ import annotations

from collections.abc import Sequence

from registryd.cluster_config import FASTEST
from registryd.oci.errors import ConfigInvalid, Denied, UsageError
from registryd.operations.node import Node, Result
from registryd.registry_config import registry_name
from registryd.units import format_rate, parse_rate


class Limited:
    """The limits of bandwidth. Every method raises Faults only."""

    _node: Node

    async def limits(self) -> Result:
        """The limits that hold now, in bytes a second; 0 is no limit."""
        rates = self._node.rates
        return {"up": rates.up.limit, "down": rates.down.limit, "registries": rates.registries}

    async def limit(
        self,
        *,
        up: str | None = None,
        down: str | None = None,
        registries: Sequence[str] = (),
        principal: str = "",
    ) -> Result:
        """Change limits, ``registries`` as ``HOST=RATE``; the limits that hold then.

        All of them or none. Raises Denied, UsageError.
        """
        if principal:
            raise Denied("only root and the daemon's own user change limits")
        if up is None and down is None and not registries:
            raise UsageError("say what is limited: up, down or a registry")
        rates = self._node.rates
        changes = [
            (rate, _read(text))
            for rate, text in ((rates.up, up), (rates.down, down))
            if text is not None
        ]
        named = dict(_read_registry(text) for text in registries)
        for rate, limit in changes:
            rate.change(limit)
        for name, limit in named.items():
            rates.limit_registry(name, limit)
        return await self.limits()


def _read(text: str) -> int:
    limit = parse_rate(text)
    if limit > FASTEST:
        raise UsageError(f"{text} is too much (at most {format_rate(FASTEST)}; 0 for no limit)")
    return limit


def _read_registry(text: str) -> tuple[str, int]:
    name, equals, rate = text.rpartition("=")
    if not equals:
        raise UsageError(f"{text!r} limits no registry (write HOST=RATE, 0 for no limit)")
    try:
        return registry_name(name), _read(rate)
    except ConfigInvalid as error:
        raise UsageError(str(error)) from error
