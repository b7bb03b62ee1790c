"""What the files of other programs on this machine say of hosts: how registries are reached.

A registry is reached by the first of these that speaks of it, alone: our configuration (where it
names mirrors or an endpoint), ``registries.conf``, ``hosts.toml``. Invariants:
- read once, in a thread; what was read is a value, and asks no file again (but for certificates);
- a mirror that is this daemon itself is never one, nor is anything in files that we wrote;
- a file that cannot be used is a problem in words, and the rest counts all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from registryd.oci.errors import ConfigInvalid
from registryd.remote import hosts_toml, registries_conf
from registryd.remote.course import Course, Place
from registryd.remote.hosts import API_HOSTS, is_loopback
from registryd.remote.registries_conf import RegistriesConf

#: The folder that stands for every registry without one of its own.
DEFAULT = "_default"
FILE = "hosts.toml"
ETC = Path("/etc")
#: These files are small; a larger one is a mistake.
FILE_LIMIT = 2**20


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Where to look, in order. ``registries_conf``: of these the first that is there.

    ``drop_ins``: folders of more such files. ``certs_d``, ``hosts_d``: folders with one for each
    host.
    """

    registries_conf: tuple[Path, ...] = ()
    drop_ins: tuple[Path, ...] = ()
    certs_d: tuple[Path, ...] = ()
    hosts_d: tuple[Path, ...] = ()


def usual_files(environ: Mapping[str, str], home: Path | None) -> HostFiles:
    """The usual places; those of a user too, whose ``home`` is given.

    ``CONTAINERS_REGISTRIES_CONF`` names a file that is read alone, as with podman.
    """
    chosen = environ.get("CONTAINERS_REGISTRIES_CONF", "")
    base = environ.get("XDG_CONFIG_HOME", "")
    users: tuple[Path, ...] = ()
    if home is not None:
        config = Path(base) if base.startswith("/") else home / ".config"
        users = (config / "containers",)
    containers = ETC / "containers"
    conf = "registries.conf"
    return HostFiles(
        (Path(chosen),) if chosen else tuple(each / conf for each in (*users, containers)),
        () if chosen else tuple(each / f"{conf}.d" for each in (containers, *users)),
        (*(each / "certs.d" for each in (*users, containers)), ETC / "docker/certs.d"),
        (ETC / "containerd/certs.d", ETC / "docker/certs.d"),
    )


@dataclass(frozen=True, slots=True)
class Certificates:
    """The folder of a host's certificates; ``shows``: there is one for us to show.

    ``state`` changes with the files, so that connections are made anew when they are read anew.
    """

    folder: Path
    shows: bool
    state: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FoundHosts:
    """What was found. ``own``: addresses at which this daemon answers; ``problems`` in words."""

    conf: RegistriesConf = field(default_factory=RegistriesConf)
    hosts: Mapping[str, hosts_toml.HostsFile] = field(default_factory=dict)
    certificates: Mapping[str, Certificates] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    @property
    def helpers(self) -> tuple[str, ...]:
        """The credential helpers for all registries."""
        return self.conf.credential_helpers

    @property
    def says(self) -> bool:
        """Whether anything was found on how registries are reached."""
        return bool(self.conf.tables or self.hosts)

    def course(self, registry: str, repository: str) -> Course:
        """How a repository is reached by these files."""
        found = self.conf.course(registry, repository)
        if found is None:
            file = self._file(registry)
            found = Course() if file is None else file.course(registry)
        mirrors = tuple(each for each in found.mirrors if not self._is_us(each))
        primary = found.primary
        return replace(
            found,
            mirrors=mirrors,
            primary=None if primary is None or self._is_us(primary) else primary,
        )

    def _file(self, registry: str) -> hosts_toml.HostsFile | None:
        host, colon, port = registry.partition(":")
        names = (f"{host}_{port}_", registry) if colon else (registry,)
        for name in names:
            if name in self.hosts:
                return self.hosts[name]
        # What stands for all means the world outside, not another program of this machine.
        return None if is_loopback(host) else self.hosts.get(DEFAULT)

    def _is_us(self, place: Place) -> bool:
        parts = urlsplit(place.url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        host = parts.hostname or ""
        if is_loopback(host) and f":{port}" in self.own:
            return True
        return f"{host}:{port}" in self.own

    def certificates_of(self, host: str) -> Certificates | None:
        """The folder of a host's certificates, by its name in references or its API's."""
        return self.certificates.get(host) or self.certificates.get(API_HOSTS.get(host, host))


def own_addresses(addresses: Iterable[str]) -> frozenset[str]:
    """``HOST:PORT`` of our listeners, as ``FoundHosts`` wants them: loopback has many names."""
    found = set()
    for address in addresses:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        found.add(f":{port}" if is_loopback(host) else f"{host}:{port}")
    return frozenset(found)


def read_hosts(
    files: HostFiles,
    *,
    own: frozenset[str] = frozenset(),
    ours: Callable[[str], bool] = lambda text: False,
) -> FoundHosts:
    """Read everything; blocks. ``ours`` tells the text of a file that we wrote ourselves."""
    problems: list[str] = []
    confs = []
    for path in _conf_files(files, problems):
        content = _content(path, problems)
        if content is None or ours(content.decode(errors="replace")):
            continue
        try:
            confs.append(registries_conf.parse(content, str(path)))
        except ConfigInvalid as error:
            problems.append(str(error))
    hosts: dict[str, hosts_toml.HostsFile] = {}
    for folder in files.hosts_d:
        for name in _names(folder, problems):
            file = _hosts_file(folder / name / FILE, ours, problems)
            if file is not None and name not in hosts:
                hosts[name] = file
    conf = registries_conf.merged(confs)
    return FoundHosts(conf, hosts, _certificates(files, problems), own, tuple(problems))


def _conf_files(files: HostFiles, problems: list[str]) -> list[Path]:
    main = next((path for path in files.registries_conf if _is_there(path, problems)), None)
    more = [
        folder / name
        for folder in files.drop_ins
        for name in _names(folder, problems)
        if name.endswith(".conf")
    ]
    return ([main] if main else []) + more


def _hosts_file(
    path: Path, ours: Callable[[str], bool], problems: list[str]
) -> hosts_toml.HostsFile | None:
    """What a registry's folder says; one that is there without the file says "no mirrors"."""
    if not _is_folder(path.parent):
        return None
    content = _content(path, problems) if _is_there(path, problems) else b""
    if content is None or ours(content.decode(errors="replace")):
        return None if content is None else hosts_toml.HostsFile()
    try:
        return hosts_toml.parse(content, path)
    except ConfigInvalid as error:
        problems.append(str(error))
        return None


def _certificates(files: HostFiles, problems: list[str]) -> dict[str, Certificates]:
    """Of each host the first folder that is there."""
    found: dict[str, Certificates] = {}
    for above in files.certs_d:
        for name in _names(above, problems):
            folder = above / name
            if name not in found and _is_folder(folder):
                inside = _names(folder, problems)
                kinds = {each.rpartition(".")[2] for each in inside}
                if kinds & {"crt", "cert", "key"}:
                    state = tuple((each, _changed(folder / each)) for each in inside)
                    found[name] = Certificates(folder, bool(kinds & {"cert", "key"}), state)
    return found


def _changed(path: Path) -> int:
    """When a file was changed; 0 for one that is not there any more."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_there(path: Path, problems: list[str]) -> bool:
    """Whether there is such a file, for us: what lies in another's folder is not."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return False
    return True


def _is_folder(path: Path) -> bool:
    """Whether this is a folder, as far as we may see."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _names(folder: Path, problems: list[str]) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []  # what is not for us is not meant for us
    except OSError as error:
        problems.append(f"{folder}: cannot be read: {error.strerror}")
        return []


def _content(path: Path, problems: list[str]) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return None
    if len(content) > FILE_LIMIT:
        problems.append(f"{path}: is larger than {FILE_LIMIT} bytes")
        return None
    return content
