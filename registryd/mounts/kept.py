"""Mounts that stay until they are unmounted, whoever made them: what ``mount`` makes.

Each has an entry in the user's runtime folder, beside those that are held by locks, with a record:
what is mounted, where, and how many times it was asked for. Invariants:
- an image that was mounted twice at one place is there until it was unmounted twice;
- a record is written before its mount is made and removed after that has gone, so that whatever is
  mounted is known; a record whose mount has gone (a restart, a killed squashfuse) is cleared away;
- nothing is unmounted but what the record says we have mounted there;
- records of other mount namespaces are left alone: their mounts cannot be seen from here.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from registryd.mounts import fuse, table, watcher
from registryd.mounts.errors import MountBusy, MountFailed, NotMounted
from registryd.mounts.folder import runtime_folder
from registryd.mounts.found import find_squashfs
from registryd.mounts.held import Wanted, entry_name, identity, mount, mounted, namespace, opened
from registryd.mounts.locks import door, locked
from registryd.mounts.users import told, users_of

#: What the name of an entry that is counted by its record begins with.
KEPT: Final = "kept-"
_RECORD: Final = "about"
#: What a mount of ours is of.
_KINDS: Final = ("squashfs", "fuse.squashfuse")
#: A fusermount that does not come back in this time (seconds) hangs.
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A mount that stays: the image's name, the key of its contents, where, and how.

    ``references`` is how many times it was asked for. ``made`` says that the folder was made for
    it, and goes with it. ``device`` (MAJOR:MINOR) is what the kernel calls it.
    """

    image: str
    key: str
    folder: str
    references: int = 0
    how: str = ""
    made: bool = False
    device: str = ""
    namespace: int = 0

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.folder)

    def there(self) -> bool:
        """Whether what is mounted on the folder is this."""
        line = table.on(self.path)
        if line is None or self.device:
            return line is not None and line.device == self.device
        return line.kind in _KINDS  # whoever mounted it was stopped before that was written

    def well(self) -> bool:
        """Whether it is there by a record that was finished, and its squashfuse answers."""
        return bool(self.references) and self.there() and mounted(self.path)


def keep(
    source: int | Path,
    *,
    image: str,
    key: str = "",
    folder: Path | None = None,
    environ: Mapping[str, str],
) -> Kept:
    """Mount a squashfs (or a SIF) to stay, once more if it is mounted there already.

    ``source`` and ``key`` are those of ``held.acquire``; ``image`` is what it is called. Without
    ``folder`` it is mounted in the user's runtime folder. Raises NotMountable, MountFailed.
    """
    with ExitStack() as files:
        file = opened(source, files)
        found = find_squashfs(file, image)
        wanted = Wanted(file, found, key or identity(file))
        home = runtime_folder(environ, os.geteuid())
        where = None if folder is None else Path(os.path.realpath(folder))
        what = [str(where)] if where else [wanted.key, str(found.offset)]
        entry = home / entry_name(KEPT, *what)
        files.enter_context(door(home))
        sweep(home, environ)
        known = _read(entry)
        if known is not None and known.key != wanted.key:
            raise MountFailed(f"{known.folder} has {known.image} mounted on it: unmount that first")
        if known is None:
            target = where or entry / watcher.MOUNT_POINT
            known = Kept(image, wanted.key, str(target), namespace=namespace())
            known = _mounted(entry, known, wanted, environ)
        known = replace(known, references=known.references + 1)
        _write(entry, known)
    return known


def kept(environ: Mapping[str, str]) -> list[tuple[Path, Kept]]:
    """What is mounted to stay in this namespace, with its entry, by folder. Raises MountFailed."""
    home = runtime_folder(environ, os.geteuid())
    with door(home):
        sweep(home, environ)
        known = [(entry, _read(entry)) for entry in home.glob(f"{KEPT}*")]
    here = namespace()
    found = [(entry, each) for entry, each in known if each and each.namespace == here]
    return sorted(found, key=lambda pair: pair[1].folder)


def let_go(
    wanted: Kept, *, everything: bool = False, lazily: bool = False, environ: Mapping[str, str]
) -> Kept:
    """Unmount what ``kept`` has listed, once, or as often as it was mounted; what is left of it.

    Its last reference unmounts it; ``lazily`` it goes from its place at once, and ends with those
    who use it. Raises MountBusy, MountFailed, and NotMounted where it is gone already.
    """
    home = runtime_folder(environ, os.geteuid())
    with door(home):
        entry = next((each for each in home.glob(f"{KEPT}*") if _is(each, wanted)), None)
        known = None if entry is None else _read(entry)
        if entry is None or known is None:
            raise NotMounted(f"{wanted.folder} is not mounted (any more)")
        left = 0 if everything else known.references - 1
        if left <= 0:
            if known.there():
                _unmount(known, lazily, fuse.unmounter(environ))
            _forget(entry, known)
            return replace(known, references=0)
        known = replace(known, references=left)
        _write(entry, known)
    return known


def sweep(home: Path, environ: Mapping[str, str]) -> None:
    """Clear away the records of this namespace whose mounts have gone; the door must be ours."""
    for entry in home.glob(f"{KEPT}*"):
        known = _read(entry)
        if known is None:
            # Nothing was ever mounted from it but on its own folder.
            watcher.detach(str(entry / watcher.MOUNT_POINT), fuse.unmounter(environ))
            _remove(entry)
        elif known.namespace == namespace() and not known.well():
            if known.there():
                watcher.detach(known.folder, fuse.unmounter(environ))
            _forget(entry, known)


def _mounted(entry: Path, known: Kept, wanted: Wanted, environ: Mapping[str, str]) -> Kept:
    """The record of a mount that is made now. Raises MountFailed."""
    entry.mkdir(mode=0o700, exist_ok=True)
    try:
        known = replace(known, made=_made_ready(known.path))
        _write(entry, known)
        with ExitStack() as files:
            # squashfuse keeps it, so that what clears old files away leaves the entry alone.
            lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            files.callback(os.close, lock)
            locked(lock, fcntl.LOCK_SH)
            how = mount(wanted, known.path, environ, beside=(lock,))
        line = table.on(known.path)
        if line is None:
            raise MountFailed(f"{known.folder} was mounted, and is not there")
    except BaseException:
        _forget(entry, known)
        raise
    return replace(known, how=how, device=line.device)


def _made_ready(folder: Path) -> bool:
    """See that a folder is there and empty; whether it was made. Raises MountFailed."""
    try:
        folder.mkdir()
    except FileExistsError:
        pass
    except OSError as error:
        raise MountFailed(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    else:
        return True
    try:
        if any(folder.iterdir()):
            raise MountFailed(f"{folder} is not empty (name a folder that is, or a new one)")
    except OSError as error:
        raise MountFailed(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    return False


def _unmount(known: Kept, lazily: bool, program: str) -> None:
    if lazily:
        watcher.detach(known.folder, program)
        if known.there():
            raise MountFailed(f"{known.folder} could not be unmounted")
        return
    try:
        watcher.umount(known.folder)
    except OSError as error:
        reason = error
    else:
        return
    if reason.errno == errno.EPERM:
        if not program:
            raise MountFailed("fusermount3 is not on the PATH (Debian: fuse3)")
        done = subprocess.run(
            [program, "-u", "--", known.folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        if not known.there():
            return
        said = done.stderr.decode(errors="replace").strip().lower()
        if os.strerror(errno.EBUSY).lower() not in said:
            raise MountFailed(f"{known.folder} could not be unmounted: {said}")
    elif reason.errno != errno.EBUSY:
        raise MountFailed(f"{known.folder} could not be unmounted: {reason.strerror}")
    raise MountBusy(
        f"{known.folder} is in use by {told(users_of(known.device))}"
        " (--lazy takes it from its place now, and it ends with them)"
    )


def _is(entry: Path, wanted: Kept) -> bool:
    known = _read(entry)
    return known is not None and (known.folder, known.namespace) == (
        wanted.folder,
        wanted.namespace,
    )


def _read(entry: Path) -> Kept | None:
    """The record of an entry; None where it has none that is whole."""
    try:
        return Kept(**json.loads((entry / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(entry: Path, known: Kept) -> None:
    partial = entry / "watch"
    partial.write_text(json.dumps(asdict(known)))
    partial.replace(entry / _RECORD)


def _forget(entry: Path, known: Kept) -> None:
    """Remove the record, and the folder that was made for the mount."""
    if known.made:
        with suppress(OSError):
            known.path.rmdir()
    _remove(entry)


def _remove(entry: Path) -> None:
    """Remove an entry, which may have no folder to be mounted on."""
    with suppress(OSError):
        (entry / watcher.MOUNT_POINT).mkdir()
    watcher.remove(str(entry))
