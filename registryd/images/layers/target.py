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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registryd.images.dressing.dress import dress
from registryd.images.errors import path_faults
from registryd.images.files import PARTIAL, in_thread, is_vacant, sync_folder
from registryd.images.layers.contents import Opener
from registryd.images.layers.extract import extract
from registryd.images.layers.plan import Plan
from registryd.images.layers.sink import FlatImage, FlatSink
from registryd.images.layers.squashfs import Compressor, program, write_squashfs
from registryd.images.words import FlatForm
from registryd.oci.errors import UsageError
from registryd.oci.image_config import parse_config
from registryd.ports import Warned

_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class FlatTerms:
    """How a flattened image is made: what a person chose, and what the process is."""

    environ: Mapping[str, str]
    warned: Warned
    compressor: Compressor = "zstd"
    replace: bool = False
    #: Without the files by which other tools start it.
    plain: bool = False


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

    dressed = form != "rootfs" and not terms.plain

    async def make(plan: Plan, openers: Sequence[Opener], image: FlatImage) -> None:
        where = str(image.digest)
        if dressed:
            config = await in_thread(parse_config, image.config)
            plan = await in_thread(dress, plan, config)
        if form == "rootfs":
            skipped = await in_thread(_make_root, plan, openers, where, path)
            if skipped:
                terms.warned(f"{path}: left out: {skipped}")
            return
        await write_squashfs(
            plan, openers, where, path, compressor=terms.compressor, environ=terms.environ
        )

    try:
        yield FlatSink(files, spool, make, config=dressed)
    finally:
        await in_thread(files.close)


def check(form: FlatForm, path: Path, replace: bool) -> None:
    """Raise UsageError where something is there that must stay."""
    if form == "rootfs":
        if os.path.islink(path) or not is_vacant(path):  # False where not allowed
            raise UsageError(f"{path} is there, and a root goes into a new folder or an empty one")
        return
    with path_faults(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is no regular file, which a squashfs is")
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
