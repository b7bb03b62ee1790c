"""``sync``: many images kept the same at another place, by a file or by their repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registryd.cli.arguments import (
    Parser,
    credential_flags,
    jobs_flag,
    platforms_flag,
    side_flags,
    tls_flags,
)
from registryd.cli.command import Context
from registryd.cli.copy_flags import chosen, index_flags, words_of_others
from registryd.oci.errors import UsageError
from registryd.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registryd.sync.plan import Plan
    from registryd.sync.run import Outcome
    from registryd.sync.skopeo_file import Target

#: Flags that say what a file of regsync's says itself.
IN_THE_FILE = (
    "platform",
    "all_platforms",
    "keep_index",
    "multi_arch",
    "referrers",
    "digest_tags",
    "scoped",
    "append_suffix",
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("source", metavar="FILE", help="a list of images (of regsync or skopeo)")
    parser.add_argument(
        "target", metavar="DST", nargs="?", default=None, help="where skopeo's lists say nothing"
    )
    group = parser.add_argument_group("sync")
    group.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    group.add_argument(
        "--keep-going", action="store_true", help="go on after a failure; exit 7 at the end"
    )
    skopeo = parser.add_argument_group("words of skopeo")
    skopeo.add_argument(
        "-s",
        "--src",
        choices=("yaml", "docker", "dir"),
        help="what FILE is: a list, a repository, a folder of folders (default: a list)",
    )
    skopeo.add_argument(
        "-d", "--dest", choices=("docker", "dir", "oci"), help="what DST is (default: docker)"
    )
    skopeo.add_argument(
        "--scoped", action="store_true", help="below DST, images have their whole name"
    )
    skopeo.add_argument("--append-suffix", metavar="TEXT", help="at the end of each tag at DST")
    platforms_flag(parser, "default: all")
    index_flags(parser)
    jobs_flag(parser, "images at a time")
    credential_flags(parser)
    tls_flags(parser)
    side_flags(parser, "src")
    side_flags(parser, "dest")
    words_of_others(parser)


def run(context: Context) -> None:
    """Copy what is not there; a table on stdout. Raises Fault; Partly when some failed."""
    from registryd.cli.mirroring import judge, mirror

    options = context.options
    if getattr(options, "verify_tag", False):
        raise UsageError("--verify-tag is about one image: use copy")
    keep_going = getattr(options, "keep_going", False)
    look = getattr(options, "check", False)
    outcomes = mirror(context, _plan(context), keep_going=keep_going, look=look)
    file = getattr(options, "digestfile", None)
    if file is not None and not getattr(options, "dry_run", False):
        _write_digests(Path(file), outcomes)
    judge(outcomes, keep_going=keep_going)


def _plan(context: Context) -> Plan:
    """What the arguments mean. Raises UsageError."""
    from registryd.sync.file import read_plan
    from registryd.sync.plan import bent
    from registryd.sync.regsync_file import World
    from registryd.sync.sources import of_folder, of_repository

    options = context.options
    kind = getattr(options, "src", "yaml")
    target = _target(context)
    if kind == "yaml":
        path = Path(options.source)
        world = World(context.environ, lambda name: _password(path.parent / name))
        if target is None:
            _refuse_in_file(context)
            plan = read_plan(_read(path), name=str(path), world=world)
            return bent(
                plan,
                strip=getattr(options, "strip", False),
                recheck=getattr(options, "force_recursive", False),
            )
        skopeo = (target, chosen(context))
        return read_plan(_read(path), name=str(path), world=world, skopeo=skopeo)
    if target is None:
        raise UsageError(f"--src {kind} needs DST: sync --src {kind} SRC DST")
    make = of_repository if kind == "docker" else of_folder
    return make(options.source, target, chosen(context))


def _target(context: Context) -> Target | None:
    """DST as --dest, or its own form, means it."""
    from registryd.sync.skopeo_file import Target

    options = context.options
    if options.target is None:
        return None
    kind, place = getattr(options, "dest", None), options.target
    for form in ("dir", "oci"):
        if kind in (None, form) and place.startswith(f"{form}:"):
            kind, place = form, place.removeprefix(f"{form}:")
    return Target(
        kind or "docker",
        place,
        getattr(options, "scoped", False),
        getattr(options, "append_suffix", ""),
    )


def _refuse_in_file(context: Context) -> None:
    """What a file says of each image, no flag says of all. Raises UsageError."""
    for name in IN_THE_FILE:
        if getattr(context.options, name, None):
            raise UsageError(
                f"--{name.replace('_', '-')}: a list of regsync's says that itself, image by image"
            )


def _read(path: Path) -> str:
    """A list of images. Raises UsageError."""
    from registryd.yaml_values import TEXT_LIMIT

    try:
        with path.open("rb") as file:
            return file.read(TEXT_LIMIT * 4).decode()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


def _password(path: Path) -> Secret:
    """The first line of a file. Raises UsageError."""
    try:
        with path.open("rb") as file:
            lines = file.read(64 << 10).decode().splitlines()
    except OSError as error:
        raise UsageError(f"passFile {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"passFile {path} is not UTF-8 text") from None
    if not lines or not lines[0]:
        raise UsageError(f"passFile {path} is empty")
    return Secret(lines[0])


def _write_digests(path: Path, outcomes: Sequence[Outcome]) -> None:
    """A line for each image that is at its target: digest and name. Raises UsageError."""
    lines = [
        f"{outcome.whole.image.descriptor.digest} {outcome.target}\n"
        for outcome in outcomes
        if outcome.whole is not None and outcome.state in ("copied", "unchanged")
    ]
    try:
        path.write_text("".join(lines))
    except OSError as error:
        raise UsageError(f"--digestfile {path}: {error.strerror}") from error
