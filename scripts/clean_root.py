"""A clean Debian to run commands in: what they write lies in a folder of the caller's own.

Invariants:
- the base (made by scripts/clean_root.sh) is never written to, and nothing else of this machine's
  files is seen inside;
- mounts are those of one process, and go when it ends, however its caller ends;
- the network is this machine's: registries on loopback can be reached.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Seconds in which one command in it has ended, on a busy machine too.
LIMIT = 300.0
ENVIRON = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "NO_COLOR": "1",
}
_MOUNT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
echo ready
exec cat
"""


class NoCleanRoot(Exception):
    """No clean root can be made or entered here; the text says why."""


@dataclass(frozen=True)
class CleanRoot:
    """A system that commands run in, while its context lasts."""

    folder: Path
    pid: int

    @property
    def written(self) -> Path:
        """The folder with all that differs from the base."""
        return self.folder / "upper"

    def command(self, *words: str, user: str = "") -> list[str]:
        """The command line that runs these words inside."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "chroot", str(self.folder / "root")]
        if user:
            inside += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return [*inside, *words]

    def attempt(self, *words: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever comes of it."""
        return subprocess.run(
            self.command(*words, user=user),
            capture_output=True,
            text=True,
            env=ENVIRON,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
        )

    def ok(self, *words: str, user: str = "") -> str:
        """Run a command inside that must succeed; its stdout. Raises RuntimeError."""
        ran = self.attempt(*words, user=user)
        if ran.returncode:
            said = f"{ran.stdout}{ran.stderr}"
            raise RuntimeError(f"{' '.join(words)} ended with {ran.returncode}: {said}")
        return ran.stdout

    def present(self, *paths: str) -> list[str]:
        """Those of the paths that are there."""
        script = 'for path; do [ ! -e "$path" ] || echo "$path"; done'
        return self.ok("sh", "-c", script, "sh", *paths).splitlines()

    def put(self, file: Path) -> str:
        """Carry a file into the system; its path there."""
        inside = f"/var/tmp/{file.name}"  # noqa: S108 (a path in the root)
        with open(file, "rb") as source:
            copy = self.command("dd", "status=none", f"of={inside}")
            subprocess.run(copy, stdin=source, check=True, env=ENVIRON)
        return inside


def base() -> Path:
    """The clean Debian of this machine's release, made if it is not there. Raises NoCleanRoot."""
    made = subprocess.run([ROOT / "scripts/clean_root.sh"], capture_output=True, text=True)
    if os.geteuid() != 0 or made.returncode:
        raise NoCleanRoot(made.stderr.strip()[-300:] or "a clean root is entered by root")
    return Path(made.stdout.strip())


@contextmanager
def clean_root(lower: Path, folder: Path) -> Iterator[CleanRoot]:
    """Enter a clean root whose changes are in ``folder``. Raises NoCleanRoot."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    command = ["unshare", "--mount", "sh", "-c", _MOUNT, "mount", str(lower), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr  # noqa: S101 (pipes, see above)
        if process.stdout.readline() != "ready\n":
            raise NoCleanRoot(process.stderr.read().strip())
        try:
            yield CleanRoot(folder, process.pid)
        finally:
            process.stdin.close()
            process.wait(LIMIT)
