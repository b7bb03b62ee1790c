"""Make registryd's own image: the Debian package, installed in a clean Debian.

    python -m scripts.own_image DEB OUT_LAYOUT [--zstd]

Two layers: the clean system, and what the package's installation has added to it. It needs root;
scripts/image.sh does all of it, and has registryctl write the archive.

Invariants:
- the same package and the same clean system give the same digest: entries are sorted, no time is
  later than that of the package, and what an installation notes down is left out;
- the process in it is an ordinary user, who can write to nothing there but the cache and the folder
  of the socket.
"""

from __future__ import annotations

import argparse
import os
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from scripts.clean_root import NoCleanRoot, base, clean_root
from scripts.machine_tree import Entry, Tree
from scripts.make_image import name_root, write_image, write_layer

#: What the making of a system leaves behind and no system needs: logs, locks, copies, other's /dev.
_LEFT_OUT = re.compile(
    r"/(dev|proc|sys|run|tmp|boot|media|mnt|srv|home)/.*|/var/(log|cache|tmp)/.*|/var/lib/apt/.*"
    r"|/var/lib/dpkg/(lock.*|.*-old|triggers/Lock|updates/.*)|/etc/(\.pwd\.lock|(passwd|group)-)"
    # The day on which a user was made; no one logs in here.
    r"|/etc/g?shadow-?|/etc/(resolv\.conf|hostname|machine-id)|/opt/registryd/share/doc/.*"
)
#: What the daemon's user may write.
_CACHE, _SOCKET = "/var/lib/registryd", "/run/registryd"


def exact_tree(root: Path, newest: int) -> Tree:
    """Everything below a folder with its owners and modes, and times up to ``newest``.

    What an overlay marks as taken away becomes a whiteout.
    """
    tree = Tree()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            inside = f"/{path.relative_to(root)}"
            if not _LEFT_OUT.fullmatch(inside):
                _put(tree, path, inside, newest)
    return tree


def _put(tree: Tree, path: Path, inside: str, newest: int) -> None:
    status = path.lstat()
    mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
    time = min(int(status.st_mtime), newest)
    if stat.S_ISLNK(status.st_mode):
        entry = Entry(0o777, link=os.readlink(path), owner=owner, time=time)
    elif stat.S_ISDIR(status.st_mode):
        # The time of a folder is that of the installation.
        entry = Entry(mode, directory=True, owner=owner, time=newest)
    elif stat.S_ISREG(status.st_mode):
        entry = Entry(mode, source=str(path), owner=owner, time=time)
    elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        inside = str(Path(inside).with_name(f".wh.{path.name}"))
        entry = Entry(0o644, time=newest)
    else:
        return
    tree.entries[inside] = entry


def make(package: Path, layout: Path, compression: str = "gzip") -> str:
    """Write the image into a layout, under the package's version; the version.

    Raises NoCleanRoot, RuntimeError when the package cannot be installed.
    """
    newest, version = _newest(package), _field(package, "Version")
    lower = base()
    with (
        tempfile.TemporaryDirectory(prefix="registryd-image.") as folder,
        clean_root(lower, Path(folder, "root")) as root,
    ):
        inside = root.put(package)
        root.ok("dpkg", "-i", inside)
        root.ok("rm", inside)
        number, group = map(int, root.ok("stat", "-c", "%u %g", _CACHE).split())
        second = exact_tree(root.written, newest)
        second.entries[_SOCKET] = Entry(0o755, directory=True, owner=(number, group), time=newest)
        trees = (exact_tree(lower, newest), second)
        with ThreadPoolExecutor(len(trees)) as threads:
            layers = list(threads.map(lambda tree: write_layer(layout, tree, compression), trees))
    created = datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = _running(f"{number}:{group}", created, version)
    steps = ("registryd: a clean Debian", "registryd: its package")
    name_root(layout, write_image(layout, layers, running, created, history=steps), version)
    return version


def _field(package: Path, field: str) -> str:
    words = ["dpkg-deb", "--field", package, field]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def _newest(package: Path) -> int:
    """The time of the newest file in the package."""
    command = ["dpkg-deb", "--fsys-tarfile", package]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        return int(max(member.mtime for member in archive))


def _running(user: str, created: str, version: str) -> dict[str, object]:
    """How the image is started, and what it is."""
    title = "org.opencontainers.image"
    return {
        "User": user,
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", f"HOME={_CACHE}"],
        "Entrypoint": ["/usr/bin/registryd"],
        "Cmd": ["--config", "/etc/registryd/config.toml"],
        "ExposedPorts": {"5050/tcp": {}},
        "Volumes": {_CACHE: {}},
        "WorkingDir": "/",
        "StopSignal": "SIGTERM",
        "Labels": {
            f"{title}.title": "registryd",
            f"{title}.description": "OCI registry client and node-local image cache",
            f"{title}.version": version,
            f"{title}.licenses": "Apache-2.0",
            f"{title}.created": created,
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """The command: make the layout and print the version. The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("package", type=Path, metavar="DEB")
    parser.add_argument("layout", type=Path, metavar="OUT_LAYOUT")
    parser.add_argument("--zstd", action="store_true", help="layers in zstd instead of gzip")
    chosen = parser.parse_args(arguments)
    try:
        print(make(chosen.package, chosen.layout, "zstd" if chosen.zstd else "gzip"))
    except (NoCleanRoot, RuntimeError) as reason:
        print(f"own_image: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
