"""registryd, the program: arguments, signals, sockets, sd_notify, drain."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from cache.errors import Fault
from registryd import __version__, systemd
from registryd.cluster.errors import IdentityUnusable
from registryd.config import Config, Places, default_config, load, system_places, user_places
from registryd.daemon_services import open_daemon
from registryd.host_services import find_hosts
from registryd.oci.errors import ConfigInvalid
from registryd.reload import taken_over, waiting
from registryd.remote.found_hosts import FoundHosts
from registryd.server.connections import MOST_CONNECTIONS, Limits
from registryd.server.listeners import (
    Door,
    Listeners,
    inherited,
    make_doors,
    make_gateway_door,
    make_peers_door,
    serving,
    withdraw,
)
from registryd.server.tls import make_contexts
from registryd.services import Reloads

if TYPE_CHECKING:
    from registryd.cluster.peer_tls import PeerTls

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: More open files than this are never asked for: some systems allow a thousand million.
MOST_FILES = 1 << 20

#: Objects made before the youngest are looked at, and looks before the next older ones are.
COLLECT = (20_000, 20, 100)

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; gives the exit code."""
    parser = argparse.ArgumentParser(prog="registryd", description="node-local image cache daemon")
    parser.add_argument("--config", type=Path, help="configuration file (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--version", action="version", version=f"registryd {__version__}")
    options = parser.parse_args(argv)
    try:
        config = _load(options.config)
        logging.basicConfig(level=config.daemon.log_level.upper(), format=LOG_FORMAT)
        if options.check:
            make_contexts(config.daemon.listen)
            _check_identity(config)
            sys.stdout.write("the configuration is good\n")
            return 0
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config, options.config))
    except Fault as fault:
        sys.stderr.write(f"registryd: {fault}\n")
        return fault.exit_code
    return 0


def _check_identity(config: Config) -> None:
    """Raises IdentityUnusable."""
    if config.cluster.on:
        from registryd.cluster_services import load_identity

        load_identity(config.cluster)


def _places(path: Path | None) -> Places:
    """The system's places for root and for the machine's own file, otherwise the user's own."""
    system = system_places()
    if os.getuid() == 0 or path == system.config:
        return system
    return user_places(os.environ, Path.home())


def _load(path: Path | None) -> Config:
    places = _places(path)
    if path is None and not places.config.exists():
        config = default_config(places)
    else:
        config = load(path or places.config, places)
    return config


def _limits() -> Limits:
    """As many open files as the system allows; half of them may be clients' connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return Limits(connections=min(most // 2, MOST_CONNECTIONS))


def _doors(config: Config) -> list[Door]:
    """Every socket to listen on, handed over or made; those with a use of their own come last.

    Raises ConfigInvalid.
    """
    count = systemd.inherited_count(os.environ, os.getpid())
    peers = config.cluster.listen if config.cluster.on else ""
    gateway, listen = config.gateway.listen, config.daemon.listen
    doors = inherited(count, listen, peers, gateway) if count else make_doors(config.daemon)
    try:
        if peers and not any(door.peers for door in doors):
            doors.append(make_peers_door(peers))
        if gateway and not any(door.gateway for door in doors):
            doors.append(make_gateway_door(gateway))
    except BaseException:
        withdraw(doors)
        raise
    return doors


async def _run(config: Config, path: Path | None) -> None:
    limits, reloads = _limits(), Reloads()
    doors = _doors(config)
    try:
        found = await _found(config, [door.name for door in doors])
        for door in doors:
            if door.gateway:
                _log.info("shifter's routes: address=%s", door.name)
        async with open_daemon(config, os.environ, doors, reloads, found) as apps:
            # Before the first client is let in: until then a signal may end the process as it is.
            orders = _Orders()
            _settle()
            async with serving(apps, drain=config.daemon.drain_timeout, limits=limits) as listeners:
                names = [door.name for door in doors if door.usual]
                daemon = _Daemon(config, path, listeners, reloads, names)
                await daemon.serve(orders)
    except BaseException:
        withdraw(doors)
        raise
    _log.info("stopped")


async def _found(config: Config, names: Sequence[str]) -> FoundHosts:
    """What other programs' files say of hosts: those that are no good are named, and left out."""
    found = await asyncio.to_thread(find_hosts, config, os.environ, listeners=names)
    for problem in found.problems:
        _log.warning("left out, as it cannot be used: %s", problem)
    return found


def _settle() -> None:
    """Let the collector look at what comes from now on, and seldom.

    Sixteen nodes in a storm spent most of their time in looks at the same modules (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    asyncio.get_running_loop().set_exception_handler(_unhandled)


def _unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody awaited; a TLS connection that broke is its own end, and no more."""
    message = str(context.get("message", ""))
    if message.startswith("Fatal error on SSL protocol") and isinstance(
        context.get("exception"), OSError
    ):
        _log.debug("a TLS connection broke: %s", context.get("exception"))
    else:
        loop.default_exception_handler(context)


class _Orders:
    """What signals have told the daemon to do, and ``news`` of it."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.stop = self.reload = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._order, "stop")
        loop.add_signal_handler(signal.SIGHUP, self._order, "reload")

    def _order(self, name: str) -> None:
        setattr(self, name, True)
        self.news.set()

    def last(self) -> None:
        """Take no more of them: from here on a second signal ends the process at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Daemon:
    """A daemon that serves, and the configuration that it runs with."""

    def __init__(
        self,
        config: Config,
        path: Path | None,
        listeners: Listeners,
        reloads: Reloads,
        names: Sequence[str],
    ) -> None:
        self._config = config
        self._path = path
        self._listeners = listeners
        self._reloads = reloads
        self._names = names

    async def serve(self, orders: _Orders) -> None:
        """Say that it is ready, and do as it is told until that is to stop."""
        root = self._config.cache.root
        names = ", ".join(self._names)
        _log.info("ready: version=%s root=%s listeners=%s", __version__, root, names)
        systemd.notify(os.environ, "READY=1")
        interval = systemd.watchdog_interval(os.environ, os.getpid())
        while not orders.stop:
            systemd.notify(os.environ, "WATCHDOG=1")
            try:
                async with asyncio.timeout(interval):
                    await orders.news.wait()
            except TimeoutError:
                continue
            orders.news.clear()
            if orders.reload:
                orders.reload = False
                await self._reload()
        drain = self._config.daemon.drain_timeout
        _log.info("stopping: requests under way have %.0f s", drain)
        systemd.notify(os.environ, "STOPPING=1")
        orders.last()

    async def _reload(self) -> None:
        """SIGHUP: take over what can change in a running daemon, and say what cannot."""
        systemd.notify(os.environ, systemd.reloading())
        try:
            new = await asyncio.to_thread(_load, self._path)
            merged = taken_over(self._config, new)
            contexts = await asyncio.to_thread(make_contexts, merged.daemon.listen)
            identity = await self._identity(merged)
        except (ConfigInvalid, IdentityUnusable) as error:
            _log.error("reload refused, going on as before: %s", error)
        else:
            left = waiting(self._config, new)
            self._config = merged
            logging.getLogger().setLevel(merged.daemon.log_level.upper())
            self._reloads(merged, identity, await _found(merged, self._names))
            await self._listeners.renew(contexts, identity.listener if identity else None)
            if left:
                _log.warning("reload: restart to apply the changes in: %s", ", ".join(left))
            _log.info("reloaded: log_level=%s", merged.daemon.log_level)
        systemd.notify(os.environ, "READY=1")

    async def _identity(self, config: Config) -> PeerTls | None:
        """What the node shows its peers from now on. Raises IdentityUnusable."""
        running = self._reloads.neighbours
        return None if running is None else await running.identity(config.cluster)


if __name__ == "__main__":
    sys.exit(main())
