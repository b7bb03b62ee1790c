"""Reading a stream of JetStream: one consumer, whose messages come to an address of its own.

Invariant: the consumer ends with the reading, or, where the server is gone, soon after it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

from registryd.cluster.errors import NatsAway
from registryd.cluster.nats_connection import Message
from registryd.cluster.nats_link import NatsLink


class Reading:
    """Messages as they come, heartbeats among them."""

    Taker = Callable[[Message], None]

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        #: How many messages were there to be read when it began.
        self.waiting = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, link: NatsLink, stream: str, config: ConsumerConfig
    ) -> AsyncIterator[Reading]:
        """A reading of what ``config`` says. Raises NatsAway, and the errors of nats-py."""
        reading = cls()
        inbox, name = f"_INBOX.{secrets.token_hex(12)}", f"r{secrets.token_hex(8)}"
        subscribed = link.subscribe(inbox, reading._messages.put_nowait)
        try:
            js = link.jetstream()
            wanted = replace(config, deliver_subject=inbox, name=name)
            made = await js.add_consumer(stream, wanted)
            reading.waiting = made.num_pending or 0
            try:
                yield reading
            finally:
                await asyncio.shield(_end(link, stream, name))
        finally:
            subscribed.end()

    async def next(self) -> Message:
        """The next message. Raises NatsAway when the reading was ended."""
        message = await self._messages.get()
        if message.nobody:
            raise NatsAway("the connection has ended")
        return message

    def end(self) -> None:
        """Have no more messages: the connection is gone."""
        self._messages.put_nowait(Message("", b"", nobody=True))


async def _end(link: NatsLink, stream: str, name: str) -> None:
    with suppress(NatsAway, NatsError, TimeoutError):
        async with asyncio.timeout(1):
            await link.jetstream().delete_consumer(stream, name)
