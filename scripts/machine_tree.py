"""What a made image holds: trees of entries gathered from this machine's own files.

Invariants:
- a path of the machine keeps its place in the image, with every link and directory on the way;
- modes are fixed and order is by name, so that the same machine gives the same tree;
- a layer does not repeat the paths of the layers below it.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

#: Programs of the first layer; those that the machine lacks are left out, except /bin/sh.
PROGRAMS = (
    "bash cat chmod chown cp cut date dd df du echo env expr false find grep head "
    "hostname id install ln ls md5sum mkdir mktemp mv nproc od printf pwd readlink rm "
    "rmdir sed seq sha256sum sleep sort stat tail tar tee test touch tr true uname "
    "uniq wc which xargs "
)
#: Libraries that programs open by name at run time, so that no ELF header tells of them.
OPENED_BY_NAME = ("libgcc_s.so.1",)
#: Parts of the standard library that an image can do without; the static libpython is huge.
LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib"}
LEFT_OUT |= {"ensurepip", "lib2to3", "tkinter", "turtledemo"}

LINK_LIMIT = 40  # as the kernel's own limit on links in one path

APPLICATION = """\
#!/usr/bin/env python3
import os, platform, sys

total = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk("/app/data") for f in fs)
print(f"hello from {platform.python_implementation()} {platform.python_version()}")
print(f"{total} bytes of data, arguments {sys.argv[1:]}")
"""


@dataclass(frozen=True)
class Entry:
    """One entry of a layer: a directory, a link (``link``), a file (``source`` or ``content``)."""

    mode: int
    link: str = ""
    source: str = ""
    content: bytes = b""
    directory: bool = False
    owner: tuple[int, int] = (0, 0)
    time: int = 0


@dataclass
class Tree:
    """What a layer will hold, by absolute path; paths of the layers below are not repeated."""

    below: frozenset[str] = frozenset()
    entries: dict[str, Entry] = field(default_factory=dict)

    def put(self, path: str, entry: Entry) -> None:
        """Set one entry, unless a lower layer has it already."""
        if path not in self.below:
            self.entries.setdefault(path, entry)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory that is not taken from the machine, with its parents."""
        for parent in reversed(Path(path).parents[:-1]):
            self.put(str(parent), Entry(0o755, directory=True))
        self.put(path, Entry(mode, directory=True))

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Add a file with this content, with its parents."""
        self.directory(str(Path(path).parent))
        raw = content.encode() if isinstance(content, str) else content
        self.put(path, Entry(mode, content=raw))

    def take(self, path: str | Path) -> None:
        """Add a path of this machine, and every link and directory on the way to it.

        Raises FileNotFoundError where a link or the path leads nowhere.
        """
        rest, here, links = deque(Path(path).parts[1:]), "", 0
        while rest:
            part = rest.popleft()
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            name = f"{here}/{part}"
            status = os.lstat(name)
            if stat.S_ISLNK(status.st_mode):
                target, links = os.readlink(name), links + 1
                if links > LINK_LIMIT:
                    raise OSError(f"{path}: too many links")
                self.put(name, Entry(0o777, link=target))
                here = "" if target.startswith("/") else here
                rest.extendleft(reversed([p for p in Path(target).parts if p != "/"]))
            elif stat.S_ISDIR(status.st_mode):
                self.put(name, Entry(0o755, directory=True))
                here = name
            elif stat.S_ISREG(status.st_mode):
                self.put(name, Entry(_file_mode(status), source=name))
                here = name

    def graft(self, root: Path, path: str = "") -> None:
        """Add everything below a directory as ``path``/… in the image; links stay links."""
        for item in sorted(os.scandir(root), key=lambda item: item.name):
            name = f"{path}/{item.name}"
            if item.is_symlink():
                self.put(name, Entry(0o777, link=os.readlink(item.path)))
            elif item.is_dir():
                self.put(name, Entry(0o755, directory=True))
                self.graft(Path(item.path), name)
            elif item.is_file():
                self.put(name, Entry(_file_mode(item.stat()), source=item.path))

    def sources(self) -> list[str]:
        """The machine's files that this layer takes."""
        return [entry.source for entry in self.entries.values() if entry.source]

    def names(self) -> frozenset[str]:
        """Every path in this layer and the ones below."""
        return self.below | self.entries.keys()


def _file_mode(status: os.stat_result) -> int:
    return 0o755 if status.st_mode & 0o111 else 0o644


# What goes into the four layers


def base_tree(base: Path | None) -> Tree:
    """A root file system with a shell: ``base`` as it is, or one gathered from this machine."""
    tree = Tree()
    if base is not None:
        tree.graft(base)
        return tree
    tree.take("/bin/sh")
    for program in PROGRAMS.split():
        for folder in ("/bin", "/usr/bin"):
            with suppress(OSError):
                tree.take(f"{folder}/{program}")
                break
    take_libraries(tree)
    for path in ("/etc/os-release", "/etc/debian_version"):
        with suppress(OSError):
            tree.take(path)
    for path in ("/dev", "/etc", "/home", "/proc", "/run", "/sys", "/var/tmp"):  # noqa: S108 (paths in the image)
        tree.directory(path)
    tree.directory("/root", 0o700)
    tree.directory("/tmp", 0o1777)  # noqa: S108 (a path in the image)
    tree.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    tree.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
    tree.write("/etc/hosts", "127.0.0.1 localhost\n")
    return tree


def python_tree(python: Path, below: frozenset[str]) -> Tree:
    """The interpreter, its shared libraries and its standard library, under their own paths."""
    tree = Tree(below)
    place = interpreter(python)
    tree.take(place["executable"])
    for path in library_files(Path(place["stdlib"])):
        with suppress(FileNotFoundError):  # a link into a part that is not installed
            tree.take(path)
    take_libraries(tree)
    for name in ("python3", "python"):
        tree.directory("/usr/local/bin")
        tree.put(f"/usr/local/bin/{name}", Entry(0o777, link=place["executable"]))
    return tree


def interpreter(python: Path) -> dict[str, str]:
    """Where the interpreter behind ``python`` (also one in a virtual environment) really lives."""
    code = (
        "import json, os, sys, sysconfig; print(json.dumps({"
        "'executable': os.path.realpath(getattr(sys, '_base_executable', sys.executable)),"
        "'stdlib': sysconfig.get_path('stdlib')}))"
    )
    answer = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True)
    return cast("dict[str, str]", json.loads(answer.stdout))


def library_files(stdlib: Path) -> Iterator[Path]:
    """The files of the standard library that an image needs, in a fixed order."""
    for folder, folders, files in os.walk(stdlib):
        folders[:] = sorted(
            name for name in folders if name not in LEFT_OUT and not name.startswith("config-")
        )
        for name in sorted(files):
            if not name.endswith((".pyc", ".a")) and not name.startswith("_tkinter"):
                yield Path(folder, name)


def app_tree(below: frozenset[str], data_bytes: int) -> Tree:
    """A small program, and about ``data_bytes`` of this machine's files as its data."""
    tree = Tree(below)
    tree.write("/app/main.py", APPLICATION, 0o755)
    tree.write("/app/build.log", "made from files of the machine\n")
    taken = 0
    for path in real_files(("/usr/share", "/usr/lib", "/usr/bin")):
        if taken >= data_bytes:
            break
        tree.directory(str(Path(f"/app/data{path}").parent))
        tree.put(f"/app/data{path}", Entry(0o644, source=path))
        taken += os.path.getsize(path)
    return tree


def real_files(roots: Iterable[str]) -> Iterator[str]:
    """Readable regular files of 1 KiB to 2 MiB, in a fixed order."""
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
            for name in sorted(files):
                path = f"{folder}/{name}"
                status = os.lstat(path)
                regular = stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)
                if regular and 1 << 10 <= status.st_size <= 2 << 20:
                    yield path


def last_tree(below: frozenset[str]) -> Tree:
    """A few bytes of settings, and a whiteout of a file of the layer below."""
    tree = Tree(below)
    tree.write("/app/settings.json", '{"greeting": "hello"}\n')
    tree.put("/app/.wh.build.log", Entry(0o644))
    return tree


def take_libraries(tree: Tree) -> None:
    """Add every shared library that the layer's ELF files need, where the loader finds it."""
    found: set[str] = set()
    files = [path for path in tree.sources() if is_elf(path)]
    # ldd answers with status 1 for files that are static; what it prints is what counts.
    answer = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False)
    for line in answer.stdout.splitlines():
        if line.startswith(("\t", " ")):  # a name without indent is the file asked about
            words = line.split()
            found.update(word for word in words if word.startswith("/"))
    for path in sorted(found):
        tree.take(path)
    folders = {str(Path(path).parent) for path in found}
    for name in OPENED_BY_NAME:
        for folder in sorted(folders):
            if Path(folder, name).exists():
                tree.take(Path(folder, name))


def is_elf(path: str) -> bool:
    """Whether the file begins as an ELF file does."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"
