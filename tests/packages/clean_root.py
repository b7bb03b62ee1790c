"""The clean Debian of ``scripts.clean_root`` for tests: a test skips where there can be none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.clean_root import ENVIRON, LIMIT, ROOT, CleanRoot, NoCleanRoot, base, clean_root


@contextmanager
def entered(folder: Path) -> Iterator[CleanRoot]:
    """A clean root whose changes are in ``folder``."""
    try:
        context = clean_root(base(), folder)
        root = context.__enter__()
    except NoCleanRoot as reason:
        pytest.skip(str(reason))
    try:
        yield root
    finally:
        context.__exit__(None, None, None)


@contextmanager
def daemon(root: CleanRoot) -> Iterator[list[str]]:
    """The daemon as the unit starts it, as its user; what it has said until it was ready."""
    words = ("/usr/bin/registryd", "--config", "/etc/registryd/config.toml")
    with subprocess.Popen(
        root.command(*words, user="registryd"),
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=ENVIRON,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            for line in process.stderr:
                lines.append(line.rstrip())
                if " ready: " in line:
                    break
            else:
                pytest.fail("the daemon did not become ready:\n" + "\n".join(lines))
            yield lines
        finally:
            process.terminate()
            process.stderr.read()
            process.wait(LIMIT)


def run(command: Sequence[str | Path], **environ: str) -> str:
    """Run a command of this tree that must succeed; its stdout."""
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environ}
    )
    assert ran.returncode == 0, f"{command}: {ran.returncode}\n{ran.stderr[-3000:]}"
    return ran.stdout
