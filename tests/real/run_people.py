"""Those who run images in the stories: root, and ordinary users with /dev/fuse open to them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.real.runtimes import Ran, attempt, plain_environ
from tests.real.stories import UP, Ctl, Daemon

NAME = f"{UP}/lib/run:1"
USER = 61005
#: Who has an entry in the user database, without which fusermount3 mounts nothing.
NOBODY = 65534
#: A node for FUSE that everybody may open, and then the rest as the user that $0 says.
AS_USER = """
mount -t tmpfs none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse
exec setpriv --reuid "$0" --regid "$0" --clear-groups "$@"
"""


@dataclass(frozen=True)
class Me:
    """Who runs images: root (0) or a user, with a home and a folder to be in."""

    uid: int
    home: Path
    socket: Path
    code: Path
    environ: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """A command line as this user's process."""
        own = [sys._base_executable, *Ctl.command(*words)[1:]]  # type: ignore[attr-defined]
        if self.uid == 0:
            return own
        return ["unshare", "--mount", "sh", "-c", AS_USER, str(self.uid), *own]

    def environment(self) -> dict[str, str]:
        """The environment in which a command begins."""
        return {
            **plain_environ(self.home),
            **({} if "REGISTRYD_ROOT" in self.environ else {"REGISTRYD_SOCKET": str(self.socket)}),
            "PYTHONPATH": str(self.code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PWD": str(self.home),
            **self.environ,
        }

    def __call__(self, *words: str, typed: str = "") -> Ran:
        """Run registryctl in the user's home."""
        script = 'cd "$0" && exec "$@"'
        command = ["sh", "-c", script, str(self.home), *self.command(*words)]
        return attempt(command, self.environment(), typed)

    def ok(self, *words: str) -> str:
        """Run one that must succeed; its stdout. It says nothing else."""
        ran = self(*words)
        assert (0, "") == (ran.code, ran.err), ran
        return ran.out

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin one; the caller ends it."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def with_environ(self, **more: str) -> Me:
        """The same with more in the environment."""
        return Me(self.uid, self.home, self.socket, self.code, {**self.environ, **more})


def person(uid: int, node: Daemon, code: Path) -> Me:
    """Somebody with a home, who has pulled the image."""
    home = node.folder / f"home-{uid}"
    who = Me(uid, home, node.socket, code)
    if not home.exists():
        plain_environ(home)
        for path in (home, *home.rglob("*")):
            os.chown(path, uid, uid)
        home.chmod(0o700)  # its runtime folder too: what a job has found is not of another run
        assert "" == who("pull", "-q", NAME).err
        who("exec", NAME, "true")
    return who


def servers(root: Path) -> list[int]:
    """The processes that serve images of this cache: they have its file open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program = (entry / "comm").read_text()
            if "squashfuse" in program and os.readlink(entry / "fd/3").startswith(str(root)):
                found.append(int(entry.name))
    return found
