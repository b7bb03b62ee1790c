"""The waits between tries, and the moment before which a host wants to hear nothing.

Invariant: "not before" belongs to a host, and every task that asks it keeps to it.
"""

from __future__ import annotations

import logging

from registryd.oci.errors import RateLimited
from registryd.remote.clock import Clock
from registryd.remote.retry import PASSING, RetryPolicy, Tries, decide, parse_retry_after

log = logging.getLogger(__name__)

#: After a shared wait, tasks start again within this many seconds, not in one burst.
SPREAD = 1.0


class NotBefore(RateLimited):
    """Raised instead of asking a host that wants to hear nothing for too long."""


class Pacing:
    """When hosts may be asked again; one for the process."""

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self.policy = policy
        self.clock = clock
        self._not_before: dict[str, float] = {}

    async def gate(self, host: str) -> None:
        """Wait until the host may be asked. Raises NotBefore when that is too far away."""
        while (remaining := self._remaining(host)) > 0:
            if remaining > self.policy.throttle_limit:
                raise NotBefore(
                    f"{host} wants no requests for another {remaining:.0f} s (too many requests); "
                    "wait, or log in to be allowed more",
                    status=429,
                )
            spread = self.clock.chance() * min(SPREAD, remaining / 10)
            await self.clock.sleep(remaining + spread)

    def _remaining(self, host: str) -> float:
        moment = self._not_before.get(host)
        if moment is None:
            return 0.0
        remaining = moment - self.clock.monotonic()
        if remaining <= 0:
            del self._not_before[host]
        return remaining

    async def again(
        self, host: str, tries: Tries, status: int | None, retry_after: str | None = None
    ) -> Tries | None:
        """Wait before another try; None when there shall be none.

        A wait that the host asked for is only noted: ``gate`` is where everyone keeps it.
        """
        wait = decide(self.policy, tries, status, retry_after, self.clock.wall(), self.clock.chance)
        if wait is None:
            return None
        log.info("trying again", extra={"host": host, "status": status, "seconds": wait.seconds})
        if wait.shared:
            self._note(host, wait.seconds)
        else:
            await self.clock.sleep(wait.seconds)
        return wait.tries

    def note(self, host: str, status: int, retry_after: str | None) -> None:
        """Keep a wait that a host asks for, on behalf of everyone, without trying again."""
        asked = parse_retry_after(retry_after, self.clock.wall())
        if asked is not None and status in PASSING:
            self._note(host, asked)

    def _note(self, host: str, seconds: float) -> None:
        moment = self.clock.monotonic() + seconds
        self._not_before[host] = max(moment, self._not_before.get(host, moment))
