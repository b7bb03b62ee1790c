"""Real threads that stop where a test tells them to: the instants that chance would hide."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

#: A gate nobody opens ends the test, not the run (seconds).
PATIENCE = 60.0


async def turns(count: int = 50) -> None:
    """Let everything that can go on without a thread go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(claim: Callable[[], bool]) -> None:
    """Wait for what a thread, or a callback after it, brings about without telling anybody."""
    async with asyncio.timeout(PATIENCE):
        while not claim():  # noqa: ASYNC110 (there is no event: that is the point)
            await asyncio.sleep(0)


def open_files() -> list[str]:
    """The numbers of the descriptors that this process has open."""
    return sorted(os.listdir("/proc/self/fd"))[:-1]


class Gate:
    """One hop stops here: before its work, or after it but before its future is told."""

    def __init__(self, *, after: bool) -> None:
        self.reached = asyncio.Event()
        self._after = after
        self._open = threading.Event()
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Let the hop go on."""
        self._open.set()

    def work(self, act, args, kwargs):
        """What the thread does."""
        if not self._after:
            self._stop()
        try:
            return act(*args, **kwargs)
        finally:
            if self._after:
                self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._open.wait(PATIENCE), "a gate was never opened"


class GatedExecutor(ThreadPoolExecutor):
    """Every ``hold`` stops one more of the hops that come."""

    def __init__(self, threads: int = 8) -> None:
        super().__init__(threads)
        self._gates: deque[Gate] = deque()
        self.hops = 0

    def hold(self, *, after: bool = False) -> Gate:
        """The gate of the next hop that is not held yet."""
        gate = Gate(after=after)
        self._gates.append(gate)
        return gate

    def submit(self, act, /, *args, **kwargs) -> Future:
        """As its parent, through the next gate if there is one."""
        self.hops += 1
        if not self._gates:
            return super().submit(act, *args, **kwargs)
        return super().submit(self._gates.popleft().work, act, args, kwargs)
