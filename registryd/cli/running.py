"""From an image's name to a command that runs in it.

Invariants:
- the way that is taken when all is there already is short: the cache is asked for configuration,
  squashfs and file by one backend, once each, then the command takes this process over;
- an image is never unpacked into a folder: its squashfs is made once, and mounted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cache.content import Digest
from cache.errors import BlobNotFound, Fault
from registryd.cli.backend import Backend, Raw, backend
from registryd.cli.command import Context
from registryd.cli.errors import ending
from registryd.cli.gateway_images import found_in_gateway
from registryd.cli.patience import in_turn
from registryd.cli.platforms import single_preferred
from registryd.cli.run_extras import extras
from registryd.cli.run_flags import flags
from registryd.cli.run_images import (
    Found,
    found_file,
    login_to,
    opened_by,
    program,
    with_squashfs,
)
from registryd.cli.run_jobs import job_of
from registryd.cli.run_runtimes import as_folder, chosen
from registryd.launch.identity import Person
from registryd.launch.plan import Caller, Wish
from registryd.launch.sharing import is_own
from registryd.launch.start import Rootfs, start, start_by
from registryd.oci.errors import PlatformUnknown
from registryd.oci.image_config import parse_config
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.secrets import Login

#: Says that everything was fetched by this command already.
_AGAIN = "REGISTRYD_BEGUN_AGAIN"


def run_image(context: Context, verb: str) -> NoReturn:
    """Become the command in the image. Raises Fault."""
    asked = flags(context, verb)
    folder, key = state_folder(context.environ), _key(context)
    name = context.options.reference
    found = found_file(name) or found_in_gateway(context, name) or _named(context, folder, key)
    if len(os.listdir("/proc/self/task")) > 1:
        _begin_again(context)
    paths = (entry for entry in found.config.env if entry.startswith("LD_LIBRARY_PATH="))
    more = extras(context, next(paths, "=").partition("=")[2])
    caller = _caller(context)
    wish = Wish(
        *(found.name, found.digest, found.config, asked, caller, more.site, more.edits),
        scripted=found.scripted,
    )

    if context.options.verbose:
        import traceback  # noqa: F401 - where it may be needed, our files are out of sight

    def told(text: str) -> None:
        if context.options.verbose:
            context.console.words(text)

    context.console.flush()
    runtime = chosen(context.options.runtime or more.runtime, os.geteuid() == 0)
    if runtime != "native":
        seen = as_folder(context, with_squashfs(context, found))
        code = start_by(runtime, wish, seen, folder=folder, rest=more.rest, told=told)
        raise SystemExit(code)
    start(
        wish,
        lambda: _remembered(context, folder, key, found),
        folder=folder,
        key=f"{key}\0{more.shape}" if key else "",
        rest=more.rest,
        told=told,
    )


def _begin_again(context: Context) -> None:
    """Run this program anew: what was fetched in this process has left threads behind, with which
    no namespace can be left. Now all is there, and none will be."""
    if _AGAIN not in context.environ:
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve("/proc/self/exe", words, {**context.environ, _AGAIN: "1"})  # noqa: S606


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where this user's commands of this node are known; on the node itself, and theirs alone."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    # su and sudo leave root the variable of another user.
    if runtime.startswith("/") and is_own(Path(runtime)):
        return Path(runtime) / "registryd" / "run"
    return Path(f"/tmp/registryd-run-{os.geteuid()}")  # noqa: S108 - checked to be ours


def _named(context: Context, folder: Path, key: str) -> Found:
    """The image of a name; those of one job find it once. Raises Fault."""
    options = context.options
    platform = single_preferred(context)
    if not key or options.pull != "missing":
        return _whole(context, platform)
    from registryd.cli.run_records import Record, forget, recorded

    mine: list[Found] = []

    def find() -> Record:
        found = _whole(context, platform)
        mine.append(found)
        return Record(found.name, found.digest, found.raw.decode(), str(found.file or ""))

    about = _about(context, key)
    record = recorded(folder, about, find)
    if record.path and not os.access(record.path, os.R_OK):  # evicted: it is made again
        forget(folder, about)
        record = recorded(folder, about, find)
    if mine:  # its file is open already
        return mine[-1]
    exact = Reference.parse(record.name).with_digest(Digest.parse(record.digest))
    raw = record.config.encode()
    file = Path(record.path) if record.path else None
    return Found(record.name, record.digest, parse_config(raw), exact, file=file, raw=raw)


def _about(context: Context, key: str) -> str:
    """What a job's record is about."""
    return f"{key}\0{context.options.reference}\0{single_preferred(context)}"


def _remembered(context: Context, folder: Path, key: str, found: Found) -> Rootfs:
    """Where the image's files are; a record of what is nowhere any more is forgotten."""
    try:
        return _rootfs(context, found)
    except Fault as fault:
        if key and ending(fault)[0] == BlobNotFound.exit_code:
            from registryd.cli.run_records import forget

            forget(folder, _about(context, key))
        raise


def _whole(context: Context, platform: str | None) -> Found:
    """The image of a name with its squashfs. Raises Fault."""
    return in_turn(lambda: _found(context, platform), context.console.words)


def _found(context: Context, platform: str | None) -> Found:
    """The same, with no question to a registry if possible."""
    reference = Reference.parse(context.options.reference)
    login = login_to(context, reference)
    with backend(context, reference.registry) as chosen:
        if context.options.pull == "always" and _AGAIN not in context.environ:
            _pull(context, chosen, reference, login)
        elif context.options.pull == "never":
            reference = _held(chosen, reference)
        wanted = {"reference": str(reference), "platform": platform}
        answer = chosen.raw("config", wanted, login)
        found = _read(reference, platform, answer)
        return opened_by(chosen, context, found, reference, login)


def _read(reference: Reference, platform: str | None, answer: Raw) -> Found:
    """What an image says of itself. Raises PlatformUnknown where another one was wanted."""
    config = parse_config(answer.content)
    digest = answer.manifest_digest
    own = config.platform
    if platform and own.known and Platform.parse(platform).accepts(own) is None:
        raise PlatformUnknown(f"there is no image for {platform} in {digest} (it is for {own})")
    return Found(str(reference), digest, config, reference, raw=answer.content)


def _pull(context: Context, chosen: Backend, reference: Reference, login: Login | None) -> None:
    from registryd.cli import progress
    from registryd.cli.platforms import preferred

    wanted = {
        "reference": str(reference),
        "platforms": [str(platform) for platform in preferred(context)],
        "all_platforms": False,
    }
    with progress.shown(context) as show:
        chosen.stream("pull", wanted, progress.warned(context, show), login)


def _held(chosen: Backend, reference: Reference) -> Reference:
    """The name with the digest that the cache holds for it. Raises NameNotFound."""
    from cache.errors import NameNotFound

    if reference.digest is not None:
        return reference
    for image in chosen.call("images", {}).get("images", []):
        if image.get("reference") == str(reference):
            return reference.with_digest(Digest.parse(str(image["digest"])))
    raise NameNotFound(f"{reference} is not in the cache, and --pull never is given")


def _rootfs(context: Context, found: Found) -> Rootfs:
    """Where the image's files are, made if need be. Raises Fault."""
    if found.folder:
        return Rootfs(folder=found.folder)
    server = program()
    found = with_squashfs(context, found)
    return Rootfs(image=found.open(), offset=found.offset, program=server)


def _caller(context: Context) -> Caller:
    import grp
    import pwd

    uid, gid, environ = os.geteuid(), os.getegid(), context.environ
    name = environ.get("USER") or f"user{uid}"
    with suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    groups = {}
    for number in {gid, *os.getgroups()}:
        try:
            groups[number] = grp.getgrgid(number).gr_name
        except KeyError:
            groups[number] = f"group{number}"
    person = Person(uid, gid, name, str(context.home), groups)
    return Caller(person, _folder(environ.get("PWD", "")), environ)


def _folder(said: str) -> str:
    """The current folder as the shell calls it, where that is true."""
    try:
        if said.startswith("/") and os.path.samefile(said, "."):
            return os.path.normpath(said)
        return os.getcwd()
    except OSError:
        return "/"


def _key(context: Context) -> str:
    """What commands have in common that share namespaces; nothing for one that is alone."""
    if context.options.no_join:
        return ""
    if context.options.join is not None:
        return f"join {context.options.join}"
    return job_of(context.environ)
