"""registryd, the program: arguments, signals, sockets, sd_notify, drain."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from cache.errors import Fault
from registryd import __version__, systemd
from registryd.config import Config, Places, default_config, load, system_places, user_places
from registryd.oci.errors import ConfigInvalid
from registryd.server.listeners import Door, inherited, make_doors, serving, withdraw
from registryd.services import open_daemon

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

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
            sys.stdout.write("the configuration is good\n")
            return 0
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config, options.config))
    except Fault as fault:
        sys.stderr.write(f"registryd: {fault}\n")
        return fault.exit_code
    return 0


def _places() -> Places:
    """The system's places for root, otherwise the user's own."""
    return system_places() if os.getuid() == 0 else user_places(os.environ, Path.home())


def _load(path: Path | None) -> Config:
    places = _places()
    if path is None and not places.config.exists():
        config = default_config(places)
    else:
        config = load(path or places.config, places)
    return config


async def _run(config: Config, path: Path | None) -> None:
    count = systemd.inherited_count(os.environ, os.getpid())
    doors = inherited(count, config.daemon.listen) if count else make_doors(config.daemon)
    try:
        async with (
            open_daemon(config, os.environ, doors) as apps,
            serving(apps, drain=config.daemon.drain_timeout),
        ):
            await _serve(config, path, doors)
    except BaseException:
        withdraw(doors)
        raise
    _log.info("stopped")


async def _serve(config: Config, path: Path | None, doors: Sequence[Door]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, config, path)
    names = ", ".join(door.name for door in doors)
    _log.info("ready: version=%s root=%s listeners=%s", __version__, config.cache.root, names)
    systemd.notify(os.environ, "READY=1")
    interval = systemd.watchdog_interval(os.environ, os.getpid())
    while not stop.is_set():
        systemd.notify(os.environ, "WATCHDOG=1")
        try:
            async with asyncio.timeout(interval):
                await stop.wait()
        except TimeoutError:
            continue
    _log.info("stopping: requests under way have %.0f s", config.daemon.drain_timeout)
    systemd.notify(os.environ, "STOPPING=1")
    # From here on a second signal ends the process at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


def _reload(config: Config, path: Path | None) -> None:
    """SIGHUP: take over what can change in a running daemon, and say what cannot."""
    systemd.notify(os.environ, "RELOADING=1")
    try:
        new = _load(path)
    except ConfigInvalid as error:
        _log.error("reload refused, going on as before: %s", error)
    else:
        logging.getLogger().setLevel(new.daemon.log_level.upper())
        changed = [key for key in ("cache", "registries", "transfer", "access")
                   if getattr(new, key) != getattr(config, key)]  # fmt: skip
        if (new.daemon.socket, new.daemon.listen) != (config.daemon.socket, config.daemon.listen):
            changed.append("daemon")
        if changed:
            _log.warning("reload: restart to apply the changes in: %s", ", ".join(changed))
        _log.info("reloaded: log_level=%s", new.daemon.log_level)
    systemd.notify(os.environ, "READY=1")


if __name__ == "__main__":
    sys.exit(main())
