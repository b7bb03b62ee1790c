"""A mount namespace in which root, or an ordinary user, mounts squashfs files and holds them.

Nothing of it is seen outside, and /dev/fuse is there for everybody, as udev leaves it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: A user who has an entry in /etc/passwd, as fusermount3 wants it.
NOBODY = 65534
#: Seconds in which something that is on its way must have happened.
LIMIT = 20.0

_NAMESPACE = """
mount -t tmpfs none "$1" && mknod -m 666 "$1/fuse" c 10 229 && chmod 666 "$1/fuse" &&
mount --bind "$1/fuse" /dev/fuse && echo ready && exec cat
"""
#: Holds a mount until its stdin ends, or becomes the program that is named after it.
_HOLDER = """
import os, sys
from pathlib import Path
from registryd.mounts.held import acquire
if "WAIT" in os.environ:
    print("waiting", flush=True)
    sys.stdin.readline()
held = acquire(Path(sys.argv[1]), key=sys.argv[2], scope=sys.argv[3], environ=os.environ)
print(held.path, held.how, held.lock, flush=True)
if sys.argv[4:]:
    os.execvp(sys.argv[4], sys.argv[4:])
sys.stdin.read()
"""


def until(claim: Callable[[], object], what: str = "it") -> None:
    """Look again and again until the claim holds; what is looked at has no event."""
    end = time.monotonic() + LIMIT
    while not claim():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen")
        time.sleep(0.005)


def program(name: str) -> str:
    """A program by its path, whatever PATH those have whom it starts."""
    found = shutil.which(name)
    assert found is not None, name
    return found


@dataclass
class Holder:
    """A process that holds a mount, and what it said of it."""

    process: subprocess.Popen[str]
    path: Path = Path()
    how: str = ""

    def read(self) -> Holder:
        """Wait until it holds."""
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if not words:
            raise AssertionError(self.failed())
        self.path, self.how = Path(words[0]), words[1]
        return self

    def go(self) -> None:
        """Let one go on that was waiting, as the environment's WAIT has it."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def failed(self) -> str:
        """The last line of one that could not."""
        return self.process.communicate()[1].strip().splitlines()[-1]

    def end(self) -> None:
        """Let it end by itself."""
        self.process.communicate()

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.communicate()


@dataclass
class Stage:
    """The namespace, who acts in it, and a folder of theirs."""

    namespace: int
    user: int
    home: Path
    files: ExitStack
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def mounts(self) -> Path:
        """Where the user's mounts are."""
        return self.home / "run/registryd/mounts"

    def words(self, *words: str | Path) -> list[str]:
        """A command line that is run in the namespace by the user."""
        enter = [program("nsenter"), "--mount", f"--target={self.namespace}", f"--wd={self.home}"]
        become = [
            program("setpriv"),
            f"--reuid={self.user}",
            f"--regid={self.user}",
            "--clear-groups",
        ]
        return [*enter, *(become if self.user else ()), *map(str, words)]

    def run(self, *words: str | Path) -> str:
        """What a command says."""
        done = subprocess.run(
            self.words(*words), env=self.environ, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def ctl(self, *words: str | Path) -> tuple[int, str, str]:
        """registryctl's exit code, stdout and stderr."""
        command = self.python("-m", "registryd.cli.main", *words)
        done = subprocess.run(
            self.words(*command), env=self.environ, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def python(self, *words: str | Path) -> list[str | Path]:
        """Our code by an interpreter that everybody may run: ours may lie in root's home."""
        system = Path("/usr/bin/python3")
        return [system if system.exists() else sys.executable, *words]

    def hold(
        self,
        file: Path,
        key: str = "",
        scope: str = "",
        *then: str,
        within: Sequence[str] = (),
    ) -> Holder:
        """Begin to hold a mount; ``then`` is the program that the holder becomes."""
        process = subprocess.Popen(
            self.words(*within, *self.python("-c", _HOLDER, file, key, scope, *then)),
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.files.callback(_ended, process)
        return Holder(process)

    def table(self) -> list[str]:
        """The mounts of ours in the namespace, as mountinfo has them."""
        lines = Path(f"/proc/{self.namespace}/mountinfo").read_text().splitlines()
        return [line for line in lines if f" {self.home}/" in line and " - tmpfs " not in line]

    def entries(self) -> list[str]:
        """The names in the folder of the user's mounts."""
        return sorted(path.name for path in self.mounts.iterdir())

    def squashfs(self, name: str, *flags: str, **contents: str) -> Path:
        """A squashfs with these files."""
        tree = self.home / f"{name}.tree"
        tree.mkdir()
        for path, text in contents.items():
            (tree / path).write_text(text)
        made = self.home / f"{name}.sqsh"
        words = ["mksquashfs", tree, made, "-quiet", "-no-progress", "-noappend", "-comp", "zstd"]
        subprocess.run([*words, *flags], check=True, capture_output=True)
        made.chmod(0o644)
        return made

    def processes(self, *words: str) -> list[int]:
        """The processes of the namespace whose command line has all these words."""
        found = []
        space = os.readlink(f"/proc/{self.namespace}/ns/mnt")
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                ours = os.readlink(folder / "ns/mnt") == space
            except OSError:
                continue
            if ours and all(word in line for word in words):
                found.append(int(folder.name))
        return found


def _ended(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


@contextmanager
def open_stage(user: int) -> Iterator[Stage]:
    """Where this user (0: root) may mount; for root to open."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdm")))
        home.chmod(0o755)
        (home / "fuse").mkdir()
        (home / "run").mkdir(mode=0o700)
        os.chown(home / "run", user, user)
        code = home / "code"
        for part in ("cache", "registryd"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, code / part, ignore=ignored)
        subprocess.run(["chmod", "-R", "a+rX", code], check=True)
        keeper = stack.enter_context(
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _NAMESPACE, "sh", home / "fuse"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert keeper.stdin is not None and keeper.stdout is not None
        assert "ready\n" == keeper.stdout.readline()
        environ = {
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": str(home / "run"),
            "PYTHONPATH": str(code),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        stage = Stage(keeper.pid, user, home, stack.enter_context(ExitStack()), environ)
        yield stage
        stage.files.close()
        until(lambda: not stage.processes("watcher.py"), "the end of the watchers")
        keeper.stdin.close()
