"""Credentials from the files that docker and podman keep (config.json, auth.json).

Invariants:
- a file that is missing holds no credentials; one that cannot be read or understood is one clear
  line that names it, and never shows a value;
- the most exact key wins: a repository's before its parents', those before the host's;
- a helper program runs for the wanted host only, and has ten seconds;
- what is written is mode 0600, whole or not at all, and keeps every key that we do not know.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from registryd.oci.errors import ConfigInvalid
from registryd.remote.auth_entry import decode_entry, encode_entry
from registryd.remote.credential_helper import HELPER_TIMEOUT, ask_helper
from registryd.secrets import Login

log = logging.getLogger(__name__)

#: The key that docker has for Docker Hub, and under which its helpers know it.
HUB_KEY = "https://index.docker.io/v1/"
HUB = "docker.io"
HUB_HOSTS = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})

#: Where podman keeps the logins of users without a run-time directory of their own. Where root was
#: the first to run it, nobody else can look in, and has nothing there.
RUN = Path("/run/containers")

#: Credential files are small; a larger one is a mistake, not a file of ours.
FILE_LIMIT = 4 * 2**20

Helper = Callable[[str, str], Login | None]


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


def login_path(environ: Mapping[str, str], home: Path) -> Path:
    """The file that a new login is written to."""
    paths = default_paths(environ, home)
    # /run/containers is root's: other users without a run-time directory cannot write there.
    chosen = environ.get("REGISTRY_AUTH_FILE") or environ.get("XDG_RUNTIME_DIR")
    return paths[0] if chosen or os.getuid() == 0 else paths[1]


class CredentialFiles:
    """Credential files in the order of their precedence. All methods block: call from a thread."""

    def __init__(self, paths: Sequence[Path], *, helper: Helper = ask_helper) -> None:
        self._paths = tuple(paths)
        self._helper = helper

    def find(self, registry: str, repository: str = "") -> Login | None:
        """The login for a registry (a repository's own, where one is kept), or None.

        Raises ConfigInvalid for a file that cannot be used.
        """
        for path in self._paths:
            login = self._find_in(path, registry, repository)
            if login is not None:
                return login
        return None

    def _find_in(self, path: Path, registry: str, repository: str) -> Login | None:
        content = read_file(path)
        helpers = _table(content, "credHelpers", path)
        key = next(matching(helpers, registry, ""), None)
        if key is not None:
            return self._from_helper(str(helpers[key]), registry, path)
        entries = _table(content, "auths", path)
        for key in matching(entries, registry, repository):
            login = decode_entry(entries[key], f'{path}, key "{key}"')
            if login is not None:
                return login
        store = content.get("credsStore")
        return self._from_helper(store, registry, path) if isinstance(store, str) else None

    def _from_helper(self, name: str, registry: str, path: Path) -> Login | None:
        if not name:
            return None
        try:
            return self._helper(name, HUB_KEY if registry == HUB else registry)
        except FileNotFoundError:
            log.warning(
                "credential helper is missing, going on without: docker-credential-%s",
                name,
                extra={"registry": registry, "file": str(path)},
            )
        except TimeoutError:
            log.warning(
                "credential helper gave no answer in %g s, going on without: docker-credential-%s",
                HELPER_TIMEOUT,
                name,
                extra={"registry": registry, "file": str(path)},
            )
        return None

    @staticmethod
    def save(path: Path, registry: str, login: Login) -> None:
        """As the function ``save``."""
        save(path, registry, login)

    @staticmethod
    def remove(path: Path, registry: str) -> bool:
        """As the function ``remove``."""
        return remove(path, registry)


def save(path: Path, registry: str, login: Login) -> None:
    """Write a login for a registry into a file, which need not exist. Raises ConfigInvalid."""
    content = read_file(path)
    helpers = _table(content, "credHelpers", path)
    if any(matching(helpers, registry, "")):
        raise ConfigInvalid(f"{path}: logins of {registry} are kept by a helper (see credHelpers)")
    entries = dict(_table(content, "auths", path))
    fresh = HUB_KEY if registry == HUB and path.name == "config.json" else registry
    key = next(matching(entries, registry, ""), fresh)
    _write(path, content | {"auths": entries | {key: encode_entry(login)}})


def remove(path: Path, registry: str) -> bool:
    """Forget a registry's login in a file; False when it had none. Raises ConfigInvalid."""
    content = read_file(path)
    entries = _table(content, "auths", path)
    gone = set(matching(entries, registry, ""))
    if gone:
        kept = {key: entry for key, entry in entries.items() if key not in gone}
        _write(path, content | {"auths": kept})
    return bool(gone)


def matching(keys: Mapping[str, Any], registry: str, repository: str) -> Iterator[str]:
    """The keys that speak of a repository of a registry, the most exact first."""
    name = f"{registry}/{repository}" if repository else registry
    while name != registry:
        if name in keys:
            yield name
        name = name.rpartition("/")[0]
    if registry in keys:
        yield registry
    for key in keys:
        if key != registry and key_host(key) == registry:
            yield key


def key_host(key: str) -> str:
    """The registry that a whole-host key means: a URL, a host, or a host with /v1/ or /v2/.

    Empty for the key of a repository or namespace.
    """
    _, scheme, rest = key.partition("://")
    host, _, path = (rest if scheme else key).lower().partition("/")
    if path.strip("/") not in ("", "v1", "v2") and not scheme:
        return ""
    return HUB if host in HUB_HOSTS else host


def read_file(path: Path, run: Path = RUN) -> dict[str, Any]:
    """The file's JSON object; empty when there is no file. Raises ConfigInvalid."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if path.is_relative_to(run) and not os.access(run, os.X_OK):
            return {}
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    if not raw.strip():
        return {}
    if len(raw) > FILE_LIMIT:
        raise ConfigInvalid(f"{path}: is too large for a credentials file")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        # The parser's own words may quote the file, so they are not shown.
        raise ConfigInvalid(f"{path}: is not JSON; correct or remove it") from None
    if not isinstance(content, dict):
        raise ConfigInvalid(f"{path}: is not a JSON object; correct or remove it")
    return content


def _table(content: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = content.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigInvalid(f'{path}: "{key}" is not a JSON object; correct or remove it')
    return value


def _write(path: Path, content: Mapping[str, Any]) -> None:
    # A link to a file elsewhere stays a link.
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise ConfigInvalid(f"{path}: cannot be written: {error.strerror}") from error
