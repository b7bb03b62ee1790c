"""What other programs' files say of hosts, for a command that dials registries itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from registryd.config import Config
from registryd.host_services import find_hosts
from registryd.oci.errors import ConfigInvalid
from registryd.remote.found_hosts import FoundHosts


def found_for(config: Config, environ: Mapping[str, str]) -> FoundHosts:
    """What the machine's and the user's files say; blocks.

    Raises ConfigInvalid for the first of them that cannot be used: a user is there to mend it.
    """
    found = find_hosts(config, environ, home=Path(environ.get("HOME") or Path.home()))
    if found.problems:
        raise ConfigInvalid(f"{found.problems[0]} (system_files = false in [hosts] leaves it out)")
    return found
