"""The same view by bubblewrap, where namespaces are given to it and not to us.

Invariant: the steps are done in their order, as bubblewrap does its arguments.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from registryd.launch.errors import LaunchRefused
from registryd.launch.plan import Launch
from registryd.launch.view import Step

PROGRAM: Final = "bwrap"


def arguments(launch: Launch, files: list[int], info: int) -> list[str]:
    """bubblewrap's command line; the descriptors that it reads are put into ``files``.

    It writes to ``info`` which process is the command. Raises LaunchRefused.
    """
    words = [PROGRAM, "--die-with-parent", "--info-fd", str(info)]
    if os.geteuid() != 0 or not _is(launch):
        words += ["--unshare-user", "--uid", str(launch.user.uid), "--gid", str(launch.user.gid)]
    for step in launch.steps:
        words += _words(step, files)
    words += ["--chdir", launch.folders[0], "--clearenv"]
    for name, value in {**launch.env, "PWD": launch.folders[0]}.items():
        words += ["--setenv", name, value]
    return [*words, "--", *launch.argv]


def _is(launch: Launch) -> bool:
    return (launch.user.uid, launch.user.gid) == (os.geteuid(), os.getegid())


def _words(step: Step, files: list[int]) -> Iterator[str]:
    """One step as bubblewrap has it."""
    if step.action == "bind":
        kind = "--ro-bind" if step.read_only else "--dev-bind" if step.devices else "--bind"
        yield from (kind, step.source, step.target)
    elif step.action == "tmpfs":
        yield from ("--perms", f"{step.mode:o}", "--tmpfs", step.target)
    elif step.action == "seal":
        yield from ("--remount-ro", step.target)
    elif step.action == "folder":
        yield from ("--dir", step.target)
    elif step.action == "link":
        yield from ("--symlink", step.text, step.target)
    elif step.action == "point":
        files.append(memory(""))
        yield from ("--file", str(files[-1]), step.target)
    elif step.action == "write":
        files.append(memory(step.text))
        yield from ("--ro-bind-data", str(files[-1]), step.target)
    elif step.action == "overlay":
        raise LaunchRefused("--writable-tmpfs needs --runtime native: bwrap has no such layer")


def memory(text: str) -> int:
    """A descriptor from which a text is read, that programs inherit."""
    file = os.memfd_create("registryd", 0)
    os.write(file, text.encode(errors="surrogateescape"))
    os.lseek(file, 0, os.SEEK_SET)
    return file
