"""What other programs' files say of hosts, for a command that dials registries itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from registryd.config import Config
from registryd.host_services import find_hosts
from registryd.remote.found_hosts import FoundHosts


def found_for(config: Config, environ: Mapping[str, str]) -> FoundHosts:
    """What the machine's and the user's files say; blocks.

    What is wrong with them is told by the first registry that is to be dialled.
    """
    return find_hosts(config, environ, home=Path(environ.get("HOME") or Path.home()))
