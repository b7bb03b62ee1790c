"""The ``[run]`` section: what every command in an image sees on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from registryd.tables import absolute, absolute_or_none, flag, list_of, one_of, text


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a site says of running images; people's own flags come on top."""

    runtime: Annotated[str, one_of("auto", "native", "bwrap", "crun", "runc")] = "auto"
    binds: Annotated[tuple[str, ...], list_of(text(), "binds")] = ()
    env: Annotated[tuple[str, ...], list_of(text(), "variables")] = ()
    home: Annotated[bool, flag] = True
    modules: Annotated[Path | None, absolute_or_none] = Path("/etc/registryd/modules.d")
    cdi: Annotated[tuple[Path, ...], list_of(absolute, "paths")] = (
        Path("/etc/cdi"),
        Path("/var/run/cdi"),
    )
