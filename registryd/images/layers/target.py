"""Where a flattened image goes: ``rootfs:DIR``, ``bundle:DIR`` or ``squashfs:FILE``.

Invariants:
- the target has its name when it is whole, and not before; a failure leaves nothing;
- what is there is not written over: a folder never, a file only where that was wished.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from registryd.images.bundle.configuration import Starter, configuration
from registryd.images.bundle.users import find_user
from registryd.images.dressing.dress import with_places
from registryd.images.errors import path_faults
from registryd.images.files import PARTIAL, in_thread, is_vacant, remove_folder, sync_folder
from registryd.images.layers.contents import Opener
from registryd.images.layers.extract import extract
from registryd.images.layers.names import Names
from registryd.images.layers.plan import Plan
from registryd.images.layers.sink import FlatImage, FlatSink
from registryd.images.layers.squashfs import Compressor, program, write_squashfs
from registryd.images.words import FlatForm
from registryd.oci.errors import UsageError
from registryd.oci.image_config import parse_config
from registryd.ports import Warned

_ROOT: Final = 0
_FOLDERS: Final[frozenset[FlatForm]] = frozenset({"rootfs", "bundle"})
_CALLED: Final[Mapping[FlatForm, str]] = {"rootfs": "root"}
#: What of the machine a bundle's program sees, where it is there.
_BINDS: Final = ("/etc/hosts", "/etc/resolv.conf")
#: Largest file of users or groups that is read.
_USERS_LIMIT: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class FlatTerms:
    """How a flattened image is made: what a person chose, and what the process is."""

    environ: Mapping[str, str]
    warned: Warned
    compressor: Compressor = "zstd"
    replace: bool = False


@asynccontextmanager
async def open_flat(
    form: FlatForm, path: Path, *, spool: Path, terms: FlatTerms
) -> AsyncIterator[FlatSink]:
    """A sink for one image, which is there when its manifest was put.

    Raises UsageError where something is there that must stay, NotMade without the program that it
    takes, PathUnusable.
    """
    files = ExitStack()
    await in_thread(check, form, path, terms.replace)
    if form == "squashfs":
        await in_thread(program, terms.environ)
    maker = _MAKERS.get(form)
    if maker is None:
        raise UsageError(f"{form}: is made by convert, export and pull only")

    async def make(plan: Plan, openers: Sequence[Opener], image: FlatImage) -> None:
        await maker(Flat(plan, openers, image, path, terms))

    try:
        yield FlatSink(files, spool, make, config=form == "bundle")
    finally:
        await in_thread(files.close)


@dataclass(frozen=True, slots=True)
class Flat:
    """An image to be made one: its files, whose it is, and where it goes."""

    plan: Plan
    openers: Sequence[Opener]
    image: FlatImage
    path: Path
    terms: FlatTerms

    @property
    def where(self) -> str:
        """What the image is called in errors."""
        return str(self.image.digest)


async def _root(flat: Flat) -> None:
    for warning in await in_thread(_make_folder, flat.path, partial(_fill_root, flat)):
        flat.terms.warned(f"{flat.path}: {warning}")


async def _bundle(flat: Flat) -> None:
    for warning in await in_thread(_make_folder, flat.path, partial(_fill_bundle, flat)):
        flat.terms.warned(f"{flat.path}: {warning}")


def _fill_root(flat: Flat, target: Path) -> list[str]:
    privileged = os.geteuid() == _ROOT
    skipped = extract(flat.plan, flat.openers, flat.where, target, privileged=privileged)
    return [f"left out: {skipped}"] if str(skipped) else []


def _fill_bundle(flat: Flat, target: Path) -> list[str]:
    config = parse_config(flat.image.config)
    flat = replace(flat, plan=with_places(flat.plan, config))
    top = target / "rootfs"
    top.mkdir(mode=stat.S_IRWXU)
    warnings = _fill_root(flat, top)
    names = Names(flat.plan)
    passwd, group = (_content(top, names.file(f"etc/{each}")) for each in ("passwd", "group"))
    user = find_user(config.user, passwd, group)
    binds = tuple(filter(os.path.exists, _BINDS))
    starter = Starter(os.geteuid(), os.getegid(), binds)
    if not starter.privileged and user.uid:
        warnings.append(f"its user {config.user[:60]!r} is you: no other number is yours to give")
    (target / "config.json").write_bytes(configuration(config, user, flat.where, starter))
    return warnings


def _content(top: Path, path: bytes | None) -> bytes:
    """A file of a root that was made just now: ``path`` has no link in it."""
    if path is None:
        return b""
    with open(top / os.fsdecode(path), "rb") as file:
        return file.read(_USERS_LIMIT)


async def _squashfs(flat: Flat) -> None:
    terms = flat.terms
    await write_squashfs(
        flat.plan,
        flat.openers,
        flat.where,
        flat.path,
        compressor=terms.compressor,
        environ=terms.environ,
    )


_MAKERS: Final[Mapping[FlatForm, Callable[[Flat], Awaitable[None]]]] = {
    "rootfs": _root,
    "bundle": _bundle,
    "squashfs": _squashfs,
}


def check(form: FlatForm, path: Path, replace: bool) -> None:
    """Raise UsageError where something is there that must stay."""
    if form in _FOLDERS:
        if os.path.islink(path) or not is_vacant(path):  # False where not allowed
            what = _CALLED.get(form, form)
            raise UsageError(
                f"{path} is there, and a {what} goes into a new folder or an empty one"
            )
        return
    with path_faults(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is no regular file, which a {form} is")
    if not replace:
        raise UsageError(f"{path} exists; remove it first (export: --force)")


def _make_folder(path: Path, fill: Callable[[Path], list[str]]) -> list[str]:
    """Make a folder beside its place, then name it; what is to be warned of."""
    path = path.absolute()
    made = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    with path_faults(path), ExitStack() as undo:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir(mode=stat.S_IRWXU)
        undo.callback(remove_folder, made)
        warnings = fill(made)
        made.rename(path)  # takes the place of an empty folder, and of nothing else
        undo.pop_all()
        sync_folder(path.parent)
    return warnings
