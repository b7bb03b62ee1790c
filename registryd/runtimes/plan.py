"""What is wanted of a runtime, what stands on the disk, and what is to be done about it (values).

Invariants:
- a Plan's address is HOST:PORT on this machine, its registries are as references name them;
- paths are relative to the prefix (``etc/docker/daemon.json``), whatever the prefix is;
- a Decision never names a file that is another's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from registryd.oci.errors import UsageError
from registryd.registry_config import registry_name
from registryd.runtimes.mark import mark_of

DEFAULT_ADDRESS = "127.0.0.1:5050"
#: Ends the name of the file that holds the mark of one which cannot hold a comment.
BESIDE = ".registryd"

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[a-z0-9.-]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Plan:
    """Pulls from these registries go to this address; none named: what the runtime's own way is.

    Raises UsageError, ConfigInvalid.
    """

    address: str
    registries: tuple[str, ...] = ()
    #: Where registryctl is, for files that call it.
    program: str = "registryctl"

    def __post_init__(self) -> None:
        match = _ADDRESS.fullmatch(self.address)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise UsageError(f"{self.address!r} is not an address (write {DEFAULT_ADDRESS})")
        if not _is_local(match["six"] or match["host"]):
            raise UsageError(
                f"{self.address} is not on this machine: the daemon speaks plain HTTP and listens"
                f" here alone (write {DEFAULT_ADDRESS})"
            )
        for registry in self.registries:
            registry_name(registry)

    @property
    def url(self) -> str:
        """The address as clients of HTTP want it."""
        return f"http://{self.address}"


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class File:
    """A file of ours to be; ``otherwise`` is what to do by hand where another's stands.

    ``comments`` is false for JSON and scripts: then the mark is in a file beside it.
    """

    path: str
    content: str
    otherwise: str
    comments: bool = True
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands where a runtime looks: the texts of files, folders, and which are links."""

    files: Mapping[str, str] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()

    def ours(self, path: str) -> bool:
        """Whether we wrote this file, and nobody has changed it since."""
        text = self.files.get(path)
        if text is None or path in self.links:
            return False
        mark = mark_of(text, beside=self.files.get(path + BESIDE))
        return mark is not None and mark.unchanged

    def marked(self, path: str) -> bool:
        """Whether we wrote this file, changed or not."""
        text = self.files.get(path)
        return text is not None and mark_of(text, self.files.get(path + BESIDE)) is not None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done.

    ``todo`` keeps the runtime from being set up as planned and needs a person; ``exceptions`` are
    parts where somebody has decided otherwise; ``notes`` are good to know; ``commands`` are what to
    type where no file does it.
    """

    files: tuple[File, ...] = ()
    todo: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the installed files make a runtime do: where it asks first, for which registries.

    ``trial`` is a configuration that does for a made-up registry what ``path`` does for these; for
    docker, which has no made-up ones, the mirror as ``path`` names it.
    """

    address: str
    registries: tuple[str, ...]
    path: str
    trial: str = ""


class Runtime(Protocol):
    """A module for one runtime, or for several that read the same files."""

    #: The programs that it is known by on PATH.
    PROGRAMS: Sequence[str]
    #: Patterns of the files and folders that matter.
    LOOKS: Sequence[str]
    #: The registries that are meant where none is named.
    REGISTRIES: Sequence[str]

    def decide(self, plan: Plan, seen: Seen) -> Decision:
        """What to write for this plan, and what to leave. Raises UsageError."""

    def read(self, seen: Seen, known: frozenset[str]) -> Reading | None:
        """What the files say: those of ours, and others' that name one of the known addresses."""


def blocked(decision: Decision, seen: Seen) -> Decision:
    """The same without the files in whose place another's stands, and with a line for each."""
    files, todo = [], list(decision.todo)
    for file in decision.files:
        if file.path in seen.files and not seen.ours(file.path):
            changed = seen.marked(file.path)
            whose = "was changed since it was written" if changed else "is not ours"
            todo.append(f"/{file.path} {whose} and stays as it is: {file.otherwise}")
        else:
            files.append(file)
    return replace(decision, files=tuple(files), todo=tuple(todo))
