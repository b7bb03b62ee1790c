"""One credentials file: its JSON, its keys, and how it is written.

Invariants:
- a file that is missing holds no credentials; one that cannot be read or understood is one clear
  line that names it, and never shows a value;
- the most exact key wins: a repository's before its parents', those before the host's;
- what is written is mode 0600, whole or not at all, and keeps every key that we do not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from registryd.oci.errors import ConfigInvalid
from registryd.remote.auth_entry import encode_entry
from registryd.remote.credential_helper import erase_by_helper, program_of, store_by_helper
from registryd.remote.credential_places import RUN, Place
from registryd.secrets import Login

#: The key that docker has for Docker Hub, and under which its helpers know it.
HUB_KEY = "https://index.docker.io/v1/"
HUB = "docker.io"
HUB_HOSTS = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})

#: Credential files are small; a larger one is a mistake, not a file of ours.
FILE_LIMIT = 4 * 2**20


def helper_server(registry: str) -> str:
    """The name by which helpers know a registry."""
    return HUB_KEY if registry == HUB else registry


def save(path: Path, key: str, login: Login) -> str:
    """Keep a login for a registry, or for a repository or namespace of it (``HOST/NS``).

    In the file, which need not exist, or with the helper that the file names for it; what keeps it
    now, in words. Raises ConfigInvalid.
    """
    registry = key.partition("/")[0]
    content = read_place(path)
    entries = table_in(content, "auths", path)
    name = helper_for(content, registry, path) or store_of(content)
    if not name:
        fresh = HUB_KEY if key == HUB and path.name == "config.json" else key
        there = next(_same(entries, key), fresh)
        _write(path, content | {"auths": entries | {there: encode_entry(login)}})
        return str(path)
    if key != registry:
        raise ConfigInvalid(
            f"{path}: logins of {registry} are kept by {program_of(name)}, which knows registries"
            f" only: log in to {registry}, or name another file by --authfile"
        )
    server = helper_server(registry)
    store_by_helper(name, server, login)
    # The mark that docker leaves; a login that was in the file itself would hide the new one.
    kept = {each: entry for each, entry in entries.items() if each not in set(_same(entries, key))}
    _write(path, content | {"auths": kept | {server: {}}})
    return f"{program_of(name)} (named in {path})"


def remove(path: Path, key: str) -> bool:
    """Forget the login of a registry, repository or namespace; False when it had none.

    Raises ConfigInvalid.
    """
    registry = key.partition("/")[0]
    content = read_place(path)
    entries = table_in(content, "auths", path)
    name = helper_for(content, registry, path) or store_of(content)
    erased = bool(name) and key == registry and erase_by_helper(name, helper_server(registry))
    gone = set(_same(entries, key))
    if gone:
        kept = {each: entry for each, entry in entries.items() if each not in gone}
        _write(path, content | {"auths": kept})
    # An empty entry is docker's mark for what its helper keeps.
    return erased or any(entries[each] for each in gone)


def keys_of(path: Path) -> list[str]:
    """What this file has logins for, by itself or by helpers. Raises ConfigInvalid."""
    content = read_place(path)
    found = [*table_in(content, "auths", path), *table_in(content, "credHelpers", path)]
    return sorted({key_host(key) or key for key in found})


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


def _same(keys: Mapping[str, Any], key: str) -> Iterator[str]:
    """The keys that mean exactly what this one does."""
    if "/" in key:
        yield from [key] if key in keys else []
    else:
        yield from matching(keys, key, "")


def key_host(key: str) -> str:
    """The registry that a whole-host key means: a URL, a host, or a host with /v1/ or /v2/.

    Empty for the key of a repository or namespace.
    """
    _, scheme, rest = key.partition("://")
    host, _, path = (rest if scheme else key).lower().partition("/")
    if path.strip("/") not in ("", "v1", "v2") and not scheme:
        return ""
    return HUB if host in HUB_HOSTS else host


def helper_for(content: Mapping[str, Any], registry: str, place: Place) -> str:
    """The helper that a file names for one registry, or the empty text. Raises ConfigInvalid."""
    helpers = table_in(content, "credHelpers", place)
    key = next(matching(helpers, registry, ""), None)
    return "" if key is None else str(helpers[key])


def store_of(content: Mapping[str, Any]) -> str:
    """The helper that a file names for all registries, or the empty text."""
    store = content.get("credsStore")
    return store if isinstance(store, str) else ""


def read_place(place: Place, run: Path = RUN) -> dict[str, Any]:
    """The JSON object in a place; empty when there is no such file. Raises ConfigInvalid."""
    if isinstance(place, Path):
        return _parse(_read(place, run), str(place))
    return _parse(place.text.reveal().encode(), place.name)


def _read(path: Path, run: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        if path.is_relative_to(run) and not os.access(run, os.X_OK):
            return b""
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    if not raw.strip():
        return {}
    if len(raw) > FILE_LIMIT:
        raise ConfigInvalid(f"{name}: is too large for a credentials file")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        # The parser's own words may quote the file, so they are not shown.
        raise ConfigInvalid(f"{name}: is not JSON; correct or remove it") from None
    if not isinstance(content, dict):
        raise ConfigInvalid(f"{name}: is not a JSON object; correct or remove it")
    return content


def table_in(content: Mapping[str, Any], key: str, place: Place) -> dict[str, Any]:
    """A member that is an object; empty when it is not there. Raises ConfigInvalid."""
    value = content.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        name = place if isinstance(place, Path) else place.name
        raise ConfigInvalid(f'{name}: "{key}" is not a JSON object; correct or remove it')
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
