"""Where docker and podman keep logins, and in which order these places are looked at.

Invariant: REGISTRY_AUTH_FILE, where it is set, is the only place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registryd.secrets import Secret

#: Where podman keeps the logins of users without a run-time directory of their own. Where root was
#: the first to run it, nobody else can look in, and has nothing there.
RUN = Path("/run/containers")

#: The variable in which CI systems hand over what would be in docker's file: its JSON itself.
AUTH_VARIABLE = "DOCKER_AUTH_CONFIG"


@dataclass(frozen=True, slots=True)
class AuthText:
    """What would be in a credentials file, handed over as a text; ``name`` is for people."""

    name: str
    text: Secret


Place = Path | AuthText


def place_name(place: Place) -> str:
    """What people know a place by."""
    return str(place) if isinstance(place, Path) else place.name


def default_paths(
    environ: Mapping[str, str], home: Path, uid: int | None = None
) -> tuple[Path, ...]:
    """Where podman and docker keep logins, in the order in which they are looked at."""
    if chosen := environ.get("REGISTRY_AUTH_FILE"):
        return (Path(chosen),)
    uid = os.getuid() if uid is None else uid
    runtime = environ.get("XDG_RUNTIME_DIR")
    config = environ.get("XDG_CONFIG_HOME")
    docker = environ.get("DOCKER_CONFIG")
    return (
        Path(runtime) / "containers/auth.json" if runtime else RUN / str(uid) / "auth.json",
        (Path(config) if config else home / ".config") / "containers/auth.json",
        (Path(docker) if docker else home / ".docker") / "config.json",
    )


def default_places(
    environ: Mapping[str, str], home: Path, uid: int | None = None
) -> tuple[Place, ...]:
    """The same, with DOCKER_AUTH_CONFIG before docker's file, over which docker prefers it."""
    paths = default_paths(environ, home, uid)
    text = environ.get(AUTH_VARIABLE, "").strip()
    if not text or environ.get("REGISTRY_AUTH_FILE"):
        return paths
    return (*paths[:-1], AuthText(AUTH_VARIABLE, Secret(text)), paths[-1])


def login_path(environ: Mapping[str, str], home: Path) -> Path:
    """The file that a new login is written to."""
    paths = default_paths(environ, home)
    # /run/containers is root's: other users without a run-time directory cannot write there.
    chosen = environ.get("REGISTRY_AUTH_FILE") or environ.get("XDG_RUNTIME_DIR")
    return paths[0] if chosen or os.getuid() == 0 else paths[1]
