"""The caller's credentials: from flags, or from the files that podman and docker keep.

Invariants:
- a flag wins over every file, and ``--no-creds`` over all;
- a password is a Secret from the moment it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.oci.errors import UsageError
from registryd.oci.reference import check_registry, check_repository, normalised
from registryd.remote.credential_places import default_places
from registryd.remote.credentials import FILES, CredentialFiles
from registryd.secrets import Login, Secret


def login_for(
    context: Context, registry: str, repository: str = "", *, side: str = ""
) -> Login | None:
    """What the user would show this registry; None: nothing.

    ``side`` is "" or one of copy's "src_" and "dest_", whose own flags win over the shared ones.
    Raises UsageError, ConfigInvalid.
    """
    options = context.options
    for prefix in dict.fromkeys((side, "")):
        if getattr(options, f"{prefix}no_creds", False):
            return None
        creds = getattr(options, f"{prefix}creds", None)
        if creds is not None:
            return from_flag(context.console, creds, "--" + f"{prefix}creds".replace("_", "-"))
    return files(context).find(registry, repository)


def files(context: Context) -> CredentialFiles:
    """The user's credential files, or the one that was named. Raises UsageError."""
    if context.options.authfile is not None:
        path = Path(context.options.authfile)
        if not path.exists():
            raise UsageError(f"--authfile {path}: there is no such file")
        return CredentialFiles((path,), warned=context.console.warning)
    places = default_places(context.environ, context.home)
    return CredentialFiles(places, helpers=_helpers(context), warned=context.console.warning)


def _helpers(context: Context) -> Sequence[str]:
    """The helpers for all registries that registries.conf names. Raises ConfigInvalid.

    What reads these files takes its time to import: only where one of them speaks of helpers.
    """
    if not any(_mentions_helpers(path) for path in _registries_confs(context)):
        return (FILES,)
    from registryd.cli.settings import settings
    from registryd.host_services import find_hosts

    found = find_hosts(settings(context), context.environ, home=context.home)
    return found.conf.credential_helpers or (FILES,)


def _registries_confs(context: Context) -> Iterator[Path]:
    if chosen := context.environ.get("CONTAINERS_REGISTRIES_CONF"):
        yield Path(chosen)
        return
    for folder in (context.home / ".config/containers", Path("/etc/containers")):
        yield folder / "registries.conf"
        yield from folder.glob("registries.conf.d/*.conf")


def _mentions_helpers(path: Path) -> bool:
    try:
        return b"credential-helpers" in path.read_bytes()
    except OSError:
        return False


def from_flag(console: Console, value: str, flag: str) -> Login:
    """The login in USER[:PASSWORD]; a password that is missing is asked for. Raises UsageError."""
    user, colon, password = value.partition(":")
    if not user:
        raise UsageError(f"{flag} is written USER[:PASSWORD]")
    secret = Secret(password) if colon else console.ask_secret(f"Password of {user}")
    return Login(user, secret, origin=flag)


def login_key(text: str) -> str:
    """What a login is kept for: a registry, or a repository or namespace of one.

    Both as references name them: ``https://index.docker.io/v1/`` is docker.io. Raises
    ReferenceInvalid.
    """
    _, scheme, rest = text.rpartition("://")
    host, _, path = rest.partition("/")
    path = path.strip("/")
    registry, _ = normalised(host, "any")
    check_registry(registry)
    if scheme or path in ("", "v1", "v2"):
        return registry
    check_repository(path)
    return f"{registry}/{path}"


def registry_name(text: str) -> str:
    """The registry as references name it. Raises ReferenceInvalid."""
    return login_key(text).partition("/")[0]
