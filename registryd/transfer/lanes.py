"""Lanes: how many of the connections to a registry large blobs may have, and which of them.

A registry that is slow is asked for as much at once as ``max_connections`` allows, and who comes
then waits until one of those requests ends: minutes, where it brings a stretch of a large blob.
So large blobs never have all connections. Invariants:
- what is small (manifests, tokens, blobs of up to ``SMALL`` bytes) needs no lane, and finds a
  connection that no large blob has;
- a lane that is free goes to the blob that has the fewest, of those to one that has had none yet,
  and then to who waits longest;
- where one blob has two lanes more than another that waits, its youngest is cut short; for a blob
  that is new, the lane that was taken first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

#: Bytes that come in about the time of a question, also where the line is slow and shared.
SMALL = 1 << 20
#: One connection in so many is kept free of large blobs.
KEPT = 4


@dataclass(slots=True, eq=False)
class Lane:
    """A lane that somebody has or waits for (``turn``); ``shorten`` asks them to end soon.

    ``new``: nothing of the blob has come yet.
    """

    blob: Hashable
    shorten: Callable[[], None]
    new: bool
    turn: asyncio.Future[None] | None = None
    ending: bool = False


class Road:
    """The lanes to one registry."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken: list[Lane] = []
        self._line: list[Lane] = []

    @asynccontextmanager
    async def lane(
        self, blob: Hashable, shorten: Callable[[], None], *, new: bool
    ) -> AsyncIterator[None]:
        """Within this block a lane is held; waits for it."""
        lane = Lane(blob, shorten, new)
        await self._enter(lane)
        try:
            yield
        finally:
            self._leave(lane)

    @property
    def idle(self) -> bool:
        """Whether nobody has a lane, or waits for one."""
        return not self._taken and not self._line

    async def _enter(self, lane: Lane) -> None:
        if len(self._taken) < self._count:
            self._taken.append(lane)
            return
        lane.turn = asyncio.get_running_loop().create_future()
        self._line.append(lane)
        self._cut_for(lane)
        try:
            await lane.turn
        except asyncio.CancelledError:
            if lane in self._line:
                self._line.remove(lane)
            else:
                self._leave(lane)
            raise

    def _leave(self, lane: Lane) -> None:
        self._taken.remove(lane)
        if self._line:
            held = Counter(each.blob for each in self._taken)
            chosen = min(self._line, key=lambda each: (held[each.blob], not each.new))
            self._line.remove(chosen)
            self._taken.append(chosen)
            if chosen.turn is not None and not chosen.turn.done():
                chosen.turn.set_result(None)

    def _cut_for(self, lane: Lane) -> None:
        """Let a lane end soon that others are more in need of, unless enough of them end."""
        staying = [each for each in self._taken if not each.ending]
        if not staying or len(self._taken) - len(staying) >= len(self._line):
            return
        held = Counter(each.blob for each in staying)
        blob, most = held.most_common(1)[0]
        own = held[lane.blob] + sum(each.blob == lane.blob for each in self._line[:-1])
        if most >= own + 2:
            chosen = [each for each in staying if each.blob == blob][-1]
        elif lane.new and not own:
            chosen = staying[0]
        else:
            return
        chosen.ending = True
        chosen.shorten()


class Lanes:
    """The lanes to all registries; ``connections`` tells how many a registry may have."""

    def __init__(self, connections: Callable[[str], int] = lambda _: 16) -> None:
        self._connections = connections
        self._roads: dict[str, Road] = {}

    def of_half(self) -> Lanes:
        """Lanes for half of the connections: for those who take longer than a registry does."""
        return Lanes(lambda registry: max(1, self._connections(registry) // 2))

    @asynccontextmanager
    async def lane(
        self,
        registry: str,
        blob: Hashable,
        size: int | None,
        shorten: Callable[[], None],
        *,
        new: bool,
    ) -> AsyncIterator[None]:
        """Within this block a connection may be used for a blob of this size; waits for it.

        ``shorten`` is called when others need it: the connection should be given up soon then.
        ``new``: nothing of the blob has come yet.
        """
        if size is not None and size <= SMALL:
            yield
            return
        road = self._roads.get(registry)
        if road is None:
            road = self._roads[registry] = Road(lanes_of(self._connections(registry)))
        try:
            async with road.lane(blob, shorten, new=new):
                yield
        finally:
            if road.idle:
                self._roads.pop(registry, None)


def lanes_of(connections: int) -> int:
    """How many of so many connections large blobs may have."""
    return max(1, connections - max(1, connections // KEPT))
