"""A listening socket on which every client has to prove who it is, and is told of where it fails.

The servers of the event loop close such a connection without a word. Nodes whose clocks, files or
clusters differ are what goes wrong first where many are set up, so each gets a line here.

Invariants:
- one line a minute for each address at most, and none for who leaves before saying anything;
- a handshake takes HANDSHAKE seconds and a place among ARRIVING, then it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from registryd.cluster.peer_tls import handshake_fault

#: Seconds for a handshake: nodes give up a connection after three.
HANDSHAKE: Final = 5.0
#: Handshakes at the same time; who comes later waits in the socket's queue.
ARRIVING: Final = 512
#: Before accepting is tried again when the system had no file for it (seconds).
REST: Final = 1.0
#: Between two lines on the same address (seconds), and the addresses that are remembered.
QUIET: Final = 60.0
REMEMBERED: Final = 1024

_log = logging.getLogger(__name__)


class Entrance:
    """Accepts on a socket, and closes it in the end; ``tls`` may be replaced at any time."""

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext,
        *,
        handshake: float = HANDSHAKE,
    ) -> None:
        self.tls = tls
        self._handshake = handshake
        self._sock = sock
        self._make = make
        self._places = asyncio.Semaphore(ARRIVING)
        self._refusals = Refusals()
        #: Handshakes that are under way.
        self.arriving = 0
        self._running: asyncio.Task[None] | None = None

    def open(self, group: asyncio.TaskGroup) -> None:
        """Accept from now on, in this group."""
        self._running = group.create_task(self._run())
        # Not before the task has ended: the loop watches the descriptor until then.
        self._running.add_done_callback(lambda _: self._sock.close())

    def close(self) -> None:
        """Accept nobody any more; handshakes that are under way end as well."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as arriving:
            while True:
                await self._places.acquire()
                try:
                    plain, address = await loop.sock_accept(self._sock)
                except OSError as error:
                    self._places.release()
                    if isinstance(error, ConnectionError):
                        continue
                    _log.error("a connection of a peer was not accepted: %s", error.strerror)
                    await asyncio.sleep(REST)
                except BaseException:
                    self._places.release()
                    raise
                else:
                    arriving.create_task(self._meet(plain, str(address[0])))

    async def _meet(self, plain: socket.socket, host: str) -> None:
        """Shake hands; the loop closes the socket when that fails, or the connection ends."""
        loop = asyncio.get_running_loop()
        self.arriving += 1
        try:
            with suppress(OSError):
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                self._make, plain, ssl=self.tls, ssl_handshake_timeout=self._handshake
            )
        except ssl.SSLError as error:
            words = f"refused: {handshake_fault(error, peer=host)}"
            line = self._refusals.line(host, words, loop.time())
            if line is not None:
                _log.warning("%s", line)
        except OSError as error:
            _log.debug("peer %s left in the handshake: %s", host, error)
        except Exception:
            _log.exception("peer %s: the handshake failed", host)
        finally:
            self.arriving -= 1
            self._places.release()


class Refusals:
    """Which refusals are told: few for each address. Pure: ``now`` is an argument."""

    def __init__(self, quiet: float = QUIET) -> None:
        self._quiet = quiet
        self._told: dict[str, float] = {}
        self._more = 0

    def line(self, host: str, words: str, now: float) -> str | None:
        """The line to write, None for one that is only counted."""
        last = self._told.get(host)
        if last is not None and now - last < self._quiet:
            self._more += 1
            return None
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[host] = now
        more, self._more = self._more, 0
        return f"{words} (and {more} more since the last line)" if more else words
