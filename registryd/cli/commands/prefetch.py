"""``prefetch``: images to many nodes ahead of their use, and where asked, waiting for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache.errors import Fault
from registryd.cli import wording
from registryd.cli.arguments import Parser, compat_flag, platforms_flag
from registryd.cli.backend import Backend, Event, backend
from registryd.cli.cluster_progress import cluster_shown
from registryd.cli.command import Context
from registryd.cli.errors import DaemonUnreachable, Partly
from registryd.cli.platforms import preferred
from registryd.cli.progress import warned
from registryd.cli.results import without_kind
from registryd.hostlist import fold
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("references", metavar="REF", nargs="*", default=[])
    parser.add_argument("--nodes", metavar="LIST", default=None, help="these, such as a[1-64]")
    parser.add_argument(
        "--all", dest="everywhere", action="store_true", default=False, help="every node"
    )
    parser.add_argument(
        "--file", metavar="WISHES", default=None, help="keep what this list wishes for fresh"
    )
    parser.add_argument(
        "--for",
        dest="lasting",
        metavar="TIME",
        default=None,
        help="how long tags mean what they mean now (default: 24h, of wishes 30d)",
    )
    parser.add_argument(
        "--convert",
        metavar="FORM",
        choices=("squashfs", "ext4", "erofs"),
        default=None,
        help="make them one file too, on one node for all: squashfs, ext4, erofs",
    )
    parser.add_argument(
        "--plain", action="store_true", default=False, help="of --convert: no files but its own"
    )
    compat_flag(parser)
    parser.add_argument(
        "--wait", action="store_true", default=False, help="until the nodes that are there have it"
    )
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        default=None,
        help="with --wait: at most so long, and for nodes that are not there too",
    )
    platforms_flag(parser, "default: each node's own")


def run(context: Context) -> None:
    """Put a job up; its id on stdout. Raises Fault; Partly when some nodes do not have it."""
    wanted = _wanted(context)
    with backend(context) as chosen:
        if chosen.socket is None:
            raise DaemonUnreachable(
                "prefetch is the work of a daemon, and none answers here (pull works without one)"
            )
        done = _followed(context, chosen, wanted)
    _tell(context, done)


def _wanted(context: Context) -> dict[str, Any]:
    """The arguments of the operation. Raises UsageError."""
    options = context.options
    if options.timeout is not None and not options.wait:
        raise UsageError("--timeout is the longest wait: it needs --wait")
    wanted: dict[str, Any] = {
        "references": [str(Reference.parse(text)) for text in options.references],
        "platforms": [str(platform) for platform in preferred(context)],
        "all_platforms": options.all_platforms,
        "convert": options.convert,
        "compat": options.compat,
        "plain": options.plain or None,
        "everywhere": options.everywhere,
        "wait": options.wait,
        "nodes": options.nodes,
        "lasting": options.lasting,
        "timeout": options.timeout,
        "wishes": None if options.file is None else _read(Path(options.file)),
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _read(path: Path) -> str:
    """A list of wishes, proven to be one. Raises UsageError."""
    from registryd.jobs.wish_list import LIST_LIMIT, parse_wishes

    try:
        with path.open("rb") as file:
            text = file.read(LIST_LIMIT + 1).decode()
    except OSError as error:
        raise UsageError(f"--file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"--file {path} is not UTF-8 text") from None
    parse_wishes(text)
    return text


def _followed(context: Context, chosen: Backend, wanted: dict[str, Any]) -> Event:
    """Put the job up, and follow it where that is wanted; the last event."""
    job = ""
    with cluster_shown(context) as show:
        tell = warned(context, show)

        def take(event: Event) -> None:
            nonlocal job
            if event.get("event") == "job":
                job = str(event.get("id"))
            tell(event)

        try:
            return chosen.stream("prefetch", wanted, take)
        except KeyboardInterrupt:
            show.close()
            if job:
                context.console.words(
                    f"the job goes on: registryctl jobs {job} shows it,"
                    f" registryctl jobs cancel {job} ends it"
                )
            raise


def _tell(context: Context, done: Event) -> None:
    """The job's id, or all of it as JSON; what has not worked on stderr. Raises Fault."""
    console, job = context.console, str(done.get("job"))
    if context.options.format == "json":
        console.json(without_kind(done))
    else:
        console.line(job)
    if not done.get("waited"):
        return
    whole, failed = done.get("done") or [], done.get("failed") or []
    missing = done.get("missing") or []
    for each in failed:
        console.words(f"registryctl: {each.get('node')}: {each.get('error')}")
    if not context.options.quiet and context.options.progress not in ("none", "json"):
        seconds = float(done.get("seconds") or 0)
        console.words(f"{wording.counted(len(whole), 'node')} done in {seconds:.1f} s")
    _judge(whole, failed, missing, job)


def _judge(whole: list[Any], failed: list[Any], missing: list[Any], job: str) -> None:
    """Raises Partly where some nodes do not have it, Fault where none has."""
    words = []
    if failed:
        words.append(f"{len(failed)} of {len(whole) + len(failed) + len(missing)} nodes failed")
    if missing:
        words.append(
            f"not done yet: {folded(missing)} (who comes later catches up; registryctl jobs {job})"
        )
    if not words:
        return
    if whole or missing:
        raise Partly("; ".join(words))
    raise Fault("; ".join(words))


def folded(names: list[Any]) -> str:
    """Names of nodes in their short form; what is no host as it is."""
    try:
        return fold(map(str, names))
    except UsageError:
        return ", ".join(map(str, names))
