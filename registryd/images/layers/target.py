"""Where a flattened image goes: ``rootfs:DIR`` or ``squashfs:FILE``.

Invariants:
- the target has its name when it is whole, and not before; a failure leaves nothing;
- what is there is not written over: a folder never, a file only where that was wished.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registryd.images.errors import path_faults
from registryd.images.files import PARTIAL, in_thread, is_vacant, sync_folder
from registryd.images.layers.contents import Opener
from registryd.images.layers.extract import extract
from registryd.images.layers.plan import Plan
from registryd.images.layers.sink import FlatImage, FlatSink
from registryd.images.layers.squashfs import Compressor, program, write_squashfs
from registryd.images.words import FlatForm
from registryd.oci.errors import UsageError
from registryd.ports import Warned

_ROOT: Final = 0
_FOLDERS: Final[frozenset[FlatForm]] = frozenset({"rootfs"})


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
        yield FlatSink(files, spool, make)
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
    skipped = await in_thread(_make_root, flat.plan, flat.openers, flat.where, flat.path)
    if skipped:
        flat.terms.warned(f"{flat.path}: left out: {skipped}")


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
    "squashfs": _squashfs,
}


def check(form: FlatForm, path: Path, replace: bool) -> None:
    """Raise UsageError where something is there that must stay."""
    if form in _FOLDERS:
        if os.path.islink(path) or not is_vacant(path):  # False where not allowed
            raise UsageError(f"{path} is there, and a root goes into a new folder or an empty one")
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


def _make_root(plan: Plan, openers: Sequence[Opener], where: str, path: Path) -> str:
    """Make the folder beside its place, then name it; what was left out."""
    path = path.absolute()
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    with path_faults(path), ExitStack() as undo:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
        undo.callback(_remove, partial)
        privileged = os.geteuid() == _ROOT
        skipped = extract(plan, openers, where, partial, privileged=privileged)
        partial.rename(path)  # takes the place of an empty folder, and of nothing else
        undo.pop_all()
        sync_folder(path.parent)
    return str(skipped)


def _remove(folder: Path) -> None:
    """Remove a root that is not whole, whatever modes its folders have."""
    for above, names, _ in os.walk(folder):
        for name in names:
            inner = Path(above, name)
            if not inner.is_symlink():
                inner.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)
