"""What the files of other programs say of hosts, less what points at this daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from registryd.config import Config
from registryd.remote.found_hosts import (
    FoundHosts,
    HostFiles,
    own_addresses,
    read_hosts,
    usual_files,
)
from registryd.runtimes.mark import mark_of


def find_hosts(
    config: Config,
    environ: Mapping[str, str],
    *,
    home: Path | None = None,
    listeners: Sequence[str] = (),
) -> FoundHosts:
    """What other programs' files say of hosts; blocks. ``home``: of the user whose command it is.

    What points at this daemon (by its ``listeners``, or in a file that ``setup`` wrote) is left
    out: nobody is their own mirror.
    """
    if not config.hosts.system_files:
        return FoundHosts()
    usual, said = usual_files(environ, home), config.hosts
    files = HostFiles(
        said.registries_conf or usual.registries_conf,
        () if said.registries_conf else usual.drop_ins,
        said.certs_d or usual.certs_d,
        said.hosts_d or usual.hosts_d,
    )
    addresses = (*(each.address for each in config.daemon.listen), *listeners)
    return read_hosts(files, own=own_addresses(addresses), ours=_is_ours)


def _is_ours(text: str) -> bool:
    mark = mark_of(text)
    return mark is not None and mark.unchanged
