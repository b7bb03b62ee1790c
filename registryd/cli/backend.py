"""What does the work: a daemon on a socket, or this process on a cache of its own.

Invariants:
- commands see the Backend port only, and cannot tell which one they have but by ``socket``;
- operations and their arguments are those of /api/v1, one name each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from registryd.cli.command import Context
from registryd.cli.errors import DaemonUnreachable
from registryd.oci.errors import UsageError
from registryd.secrets import Login

Event = dict[str, Any]
Report = Callable[[Event], None]

#: Flags that only the process that dials a registry can obey.
CONNECTION_FLAGS = ("tls_verify", "cert_dir", "ca_file", "plain_http", "retry_times", "jobs")


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is bytes: a manifest or a config, with what the answer says of it.

    ``manifest_digest`` is that of the manifest which a config belongs to.
    """

    content: bytes
    media_type: str = ""
    digest: str = ""
    manifest_digest: str = ""


class Backend(Protocol):
    """The operations of /api/v1, wherever they are done."""

    @property
    def socket(self) -> Path | None:
        """The socket of the daemon that works, or None when it is this process."""

    @property
    def root(self) -> Path | None:
        """The root of the cache when it is this process that works on it, else None."""

    def call(
        self, operation: str, arguments: Mapping[str, Any], login: Login | None = None
    ) -> dict[str, Any]:
        """An operation whose result is JSON. Raises Fault."""

    def raw(self, operation: str, arguments: Mapping[str, Any], login: Login | None = None) -> Raw:
        """An operation whose result is bytes. Raises Fault."""

    def stream(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        report: Report,
        login: Login | None = None,
    ) -> Event:
        """A long operation that reports its events; the event "done". Raises Fault."""

    def opened(self, reference: str, digest: str, login: Login | None = None) -> int:
        """A blob's file, open for reading; the caller closes it. Raises Fault.

        It is read on to the end even if the blob is evicted meanwhile.
        """

    def close(self) -> None:
        """Give back what is held."""


@contextmanager
def backend(
    context: Context, *registries: str, side: str = "", jobs_here: bool = False
) -> Iterator[Backend]:
    """The backend that flags, environment and running daemons point to.

    ``registries`` are those that the flags for connections mean (``side`` is the prefix of those
    flags that win over the shared ones). ``jobs_here``: this process moves the blobs, whoever
    reaches the registry. Raises UsageError, DaemonUnreachable, ConfigInvalid.
    """
    chosen = _chosen(context, registries, side)
    try:
        if chosen.socket is not None and registries:
            flags = [flag for flag in CONNECTION_FLAGS if flag != "jobs" or not jobs_here]
            _refuse_connection_flags(context, chosen.socket, side, flags)
        yield chosen
    finally:
        chosen.close()


def _chosen(context: Context, registries: tuple[str, ...], side: str) -> Backend:
    options, environ = context.options, context.environ
    if options.root and options.socket:
        raise UsageError("--root means no daemon and --socket means one: give one of the two")
    root = options.root or (not options.socket and environ.get("REGISTRYD_ROOT"))
    if root:
        return _local(context, Path(root), registries, side)
    named = options.socket or environ.get("REGISTRYD_SOCKET")
    daemon = _daemon(Path(named).absolute()) if named else _running_daemon(context)
    if daemon is None:
        return _local(context, None, registries, side)
    from registryd.cli.stored_logins import StoredLogins

    return StoredLogins(daemon, context.console.warning)


def _daemon(path: Path) -> Backend:
    """The daemon on this socket. Raises DaemonUnreachable."""
    from registryd.cli.socket_client import SocketBackend

    daemon = SocketBackend(path)
    daemon.connect()
    return daemon


def usual_sockets(context: Context) -> tuple[Path, Path]:
    """Where a daemon answers that nobody has named: the user's own first, then the machine's."""
    from registryd.places import system_places, user_places

    return user_places(context.environ, context.home).socket, system_places().socket


def _running_daemon(context: Context) -> Backend | None:
    """The user's own daemon, or the machine's, if one answers."""
    for path in usual_sockets(context):
        try:
            return _daemon(path)
        except DaemonUnreachable:
            continue
    return None


def _local(context: Context, root: Path | None, registries: tuple[str, ...], side: str) -> Backend:
    """This process, on this cache or on the user's own."""
    from registryd.cli.local import LocalBackend
    from registryd.cli.settings import settings

    config = settings(context, root=root, registries=registries, side=side)
    return LocalBackend(config, context.environ, context.console.warning)


def _refuse_connection_flags(
    context: Context, socket: Path, side: str, flags: Sequence[str]
) -> None:
    """A flag that cannot be obeyed is refused, not forgotten. Raises UsageError."""
    for name in (prefix + flag for prefix in {side, ""} for flag in flags):
        if getattr(context.options, name, None) is not None:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag}: the daemon on {socket} reaches registries as its own configuration"
                " says (change it there, or use --root DIR for a cache without a daemon)"
            )
