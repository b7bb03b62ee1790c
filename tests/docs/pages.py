"""Pages whose commands are run: what they print has to be what the page says that they print.

In the text that is expected ``...`` stands for anything within a line, and a line of it alone for
any lines; what stands behind `` #`` in a command is a remark.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A command of a page, and what it prints there."""

    command: str
    expected: str

    def agrees(self, printed: str) -> bool:
        """Whether this is what the page says."""
        lines = self.expected.splitlines()
        pattern = "\n".join(r"(?s:.*?)" if line == "..." else _line(line) for line in lines)
        return re.fullmatch(pattern, "\n".join(map(str.rstrip, printed.splitlines()))) is not None


def _line(text: str) -> str:
    return r"[^\n]*".join(map(re.escape, text.rstrip().split("...")))


def steps(path: Path) -> list[Step]:
    """The commands of a page, in order."""
    found = []
    for block in _BLOCK.findall(path.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, expected = _divided(part)
            found.append(Step(command, expected))
    return found


def _divided(part: str) -> tuple[str, str]:
    lines = part.splitlines(keepends=True)
    last = next(at for at, line in enumerate(lines) if not line.endswith("\\\n"))
    return "".join(lines[: last + 1]).rstrip("\n"), "".join(lines[last + 1 :])


def run(step: Step, folder: Path, environ: Mapping[str, str]) -> str:
    """Run a command of a page in a folder; what it prints, and an exit code that is not 0."""
    done = subprocess.run(
        ["bash", "-c", step.command], cwd=folder, env=dict(environ), timeout=120, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout + (f"(exit code {done.returncode})\n" if done.returncode else "")
