"""Where the dynamic loader of a tree, an image's or this machine's, finds a library.

Invariants:
- folders of LD_LIBRARY_PATH come first, then ``/etc/ld.so.cache``, then what ``/etc/ld.so.conf``
  names and the folders that are built in (ld.so(8));
- every path is resolved inside the tree; what is there is read before it is believed;
- a file that has several names or links is given once, under the path that no link leads to.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from registryd.launch.elf import ElfWrong, Library, read_library
from registryd.launch.image_tree import ImageTree
from registryd.launch.loader_cache import SIZE_LIMIT, LoaderCacheWrong, read_loader_cache

CACHE: Final = "/etc/ld.so.cache"
CONF: Final = "/etc/ld.so.conf"
#: Bytes of a file of folders.
CONF_LIMIT: Final = 64 << 10
#: Files that one of them includes, and folders that all of them name.
CONF_FILES: Final = 200
FOLDERS_LIMIT: Final = 500

#: What loaders have built in: glibc's, Debian's per machine, and musl's.
_BUILT_IN: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
#: Debian's names of machines, by the ELF number of the machine and the word size.
_MULTIARCH: Final = {
    (62, 64): "x86_64-linux-gnu",
    (183, 64): "aarch64-linux-gnu",
    (21, 64): "powerpc64le-linux-gnu",
    (22, 64): "s390x-linux-gnu",
    (243, 64): "riscv64-linux-gnu",
    (3, 32): "i386-linux-gnu",
    (40, 32): "arm-linux-gnueabihf",
}


@dataclass(frozen=True, slots=True)
class LibraryFile:
    """A library and the path of its file, which is no link."""

    path: str
    library: Library

    @property
    def name(self) -> str:
        """What the loader knows it by: its soname, or the name of its file."""
        return self.library.soname or self.path.rpartition("/")[2]


class Loader:
    """The loader of one tree. Reads files when asked."""

    def __init__(self, tree: ImageTree, *, first: Sequence[str] = ()) -> None:
        self._tree = tree
        self._first = tuple(folder for folder in first if folder.startswith("/"))[:FOLDERS_LIMIT]

    def library(self, path: str) -> LibraryFile | None:
        """The library at a path; None where there is none."""
        resolved = self._tree.resolve(path)
        if resolved is None:
            return None
        with self._tree.opened(resolved) as descriptor:
            if descriptor is None:
                return None
            try:
                return LibraryFile(resolved, read_library(descriptor))
            except ElfWrong:
                return None

    def named(self, soname: str, like: Library) -> tuple[LibraryFile, ...]:
        """The files that a process of the ABI of ``like`` may get for a name, in their order."""
        found: dict[str, LibraryFile] = {}
        for path in self._places(soname, like):
            each = self.library(path)
            if each is not None and each.library.abi == like.abi:
                found.setdefault(each.path, each)
        return tuple(found.values())

    def _places(self, soname: str, like: Library) -> Iterator[str]:
        for folder in self._first:
            yield f"{folder}/{soname}"
        yield from self._cached.get(soname, ())
        arch = _MULTIARCH.get((like.machine, like.bits))
        own = (f"/lib/{arch}", f"/usr/lib/{arch}") if arch else ()
        for folder in (*self._configured, *own, *_BUILT_IN):
            yield f"{folder}/{soname}"

    @cached_property
    def _cached(self) -> dict[str, list[str]]:
        """The paths of each soname in the cache; none where there is no cache that is one."""
        raw = self._tree.read(CACHE, SIZE_LIMIT)
        paths: dict[str, list[str]] = {}
        try:
            for entry in read_loader_cache(raw) if raw else ():
                paths.setdefault(entry.soname, []).append(entry.path)
        except LoaderCacheWrong:
            return {}
        return paths

    @cached_property
    def _configured(self) -> tuple[str, ...]:
        """The folders that ``/etc/ld.so.conf`` and what it includes name (ldconfig(8))."""
        waiting, read, folders = [CONF], 0, list[str]()
        while waiting and read < CONF_FILES and len(folders) < FOLDERS_LIMIT:
            raw = self._tree.read(waiting.pop(0), CONF_LIMIT) or b""
            read += 1
            for line in raw.decode("utf-8", "replace").splitlines():
                words = line.partition("#")[0].split()
                if words[:1] == ["include"]:
                    waiting += [path for each in words[1:] for path in self._matching(each)]
                elif words and words[0].startswith("/"):
                    folders.append(words[0].partition("=")[0].rstrip("/"))
        return tuple(folders[:FOLDERS_LIMIT])

    def _matching(self, pattern: str) -> list[str]:
        """The files that an include means: its last part may have wildcards."""
        whole = pattern if pattern.startswith("/") else f"/etc/{pattern}"
        folder, _, last = whole.rpartition("/")
        names = fnmatch.filter(self._tree.names(folder), last)
        return [f"{folder}/{name}" for name in names[:CONF_FILES]]
