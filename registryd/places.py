"""Where things are when no one says otherwise: the machine's daemon's, and one user's.

Invariant: this is all that a short command needs to find its daemon, so nothing of the rest of the
configuration is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are when no one says otherwise."""

    root: Path
    socket: Path
    config: Path


def system_places() -> Places:
    """The places of the machine's daemon."""
    return Places(
        root=Path("/var/lib/registryd"),
        socket=Path("/run/registryd/registryd.sock"),
        config=Path("/etc/registryd/config.toml"),
    )


def user_places(environ: Mapping[str, str], home: Path) -> Places:
    """The places of one user (XDG Base Directory Specification: relative values are ignored)."""

    def base(variable: str) -> Path | None:
        value = environ.get(variable, "")
        return Path(value) / "registryd" if value.startswith("/") else None

    root = base("XDG_DATA_HOME") or home / ".local/share/registryd"
    config = base("XDG_CONFIG_HOME") or home / ".config/registryd"
    return Places(
        root=root,
        socket=(base("XDG_RUNTIME_DIR") or root) / "registryd.sock",
        config=config / "config.toml",
    )
