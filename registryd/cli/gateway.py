"""What the gateway's commands share: the daemon, lists of users and groups, and waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, Event, backend
from registryd.cli.command import Context
from registryd.cli.errors import DaemonUnreachable
from registryd.cli.results import without_kind
from registryd.oci.errors import UsageError

if TYPE_CHECKING:
    from registryd.cli.socket_client import SocketBackend

#: What an image of the gateway is called in a command line.
IMAGE = "IMAGE"


@contextmanager
def gateway(context: Context) -> Iterator[Backend]:
    """The daemon whose gateway it is. Raises DaemonUnreachable where none answers."""
    with backend(context) as chosen:
        if chosen.socket is None:
            raise DaemonUnreachable("the gateway is the work of a daemon, and none answers here")
        yield chosen


@contextmanager
def dialled(chosen: Backend) -> Iterator[SocketBackend]:
    """A connection of its own, for files that come and go: no other kind of backend has them."""
    from registryd.cli.socket_client import SocketBackend

    assert chosen.socket is not None  # noqa: S101 (gateway() has seen to it)
    with closing(SocketBackend(chosen.socket)) as daemon:
        yield daemon


def image_argument(parser: Parser) -> None:
    """Declare the image: a name, with ``docker:``, ``custom:`` or ``id:`` in front."""
    parser.add_argument("image", metavar=IMAGE, help="[docker:]NAME, custom:NAME or id:HEX")


def sharing_flags(parser: Parser) -> None:
    """Declare whom an image is for, and how long to wait for it."""
    parser.add_argument(
        "--user", metavar="LIST", default="", help="users (names, numbers) who may read it too"
    )
    parser.add_argument("--group", metavar="LIST", default="", help="groups who may read it too")
    parser.add_argument(
        "--wait", action="store_true", default=True, help="until it is ready (default)"
    )
    parser.add_argument(
        "--no-wait", dest="wait", action="store_false", help="only until it was taken"
    )
    parser.add_argument("--timeout", metavar="TIME", default=None, help="the longest wait")


def words_of(text: str) -> list[str]:
    """A list with commas; one too many does no harm."""
    return [word.strip() for word in text.split(",") if word.strip()]


def check_wait(context: Context) -> None:
    """Raises UsageError for a time-out of what does not wait."""
    if context.options.timeout is not None and not context.options.wait:
        raise UsageError("--timeout is the longest wait: it needs --wait")


def teller(context: Context) -> Callable[[Event], None]:
    """Tells on stderr how far an import is."""
    options, last = context.options, ""

    def tell(event: Event) -> None:
        nonlocal last
        if event.get("event") != "import" or options.quiet or options.progress in ("none", "json"):
            return
        message = str(event.get("message") or "")
        words = f"{event.get('name')}: {event.get('state')}" + (f" ({message})" if message else "")
        if words != last:
            last = words
            context.console.words(words)

    return tell


def tell_end(context: Context, done: Event) -> None:
    """What has come of it: the id on stdout, or all of it as JSON."""
    if context.options.format == "json":
        context.console.json(without_kind(done))
    elif done.get("id"):
        context.console.line(str(done["id"]))
