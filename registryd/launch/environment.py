"""The environment of a command: who wins over whom.

From the weakest on: the caller's own variables (unless they are to be forgotten), the image's, what
the site, its modules and devices change, ``REGISTRYD_ENV_X``, ``--env-file``, ``--env``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from registryd.launch.edits import Edits
from registryd.launch.errors import LaunchRefused

#: Where programs are when an image says nothing of it (as docker has it).
USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: A variable that begins so is one of the command, without the beginning; the last one wins.
PREFIXES: Final = ("SINGULARITYENV_", "APPTAINERENV_", "REGISTRYD_ENV_")
#: What speaks of programs, libraries and shells of the machine, and would break those of an image.
_OF_THE_MACHINE: Final = re.compile(
    r"PATH|LD_.*|BASH_ENV|ENV|BASH_FUNC_.*|SHELL|PS1|PROMPT_COMMAND|OLDPWD|PWD|SHLVL|_"
    r"|REGISTRYD_.*|(?:SINGULARITY|APPTAINER)ENV_.*"
)
#: What stays of the caller when everything else is forgotten.
_WHO: Final = ("HOME", "USER", "LOGNAME", "TERM")


def environment(
    caller: Mapping[str, str],
    image: Iterable[str],
    edits: Edits,
    *,
    own: Mapping[str, str],
    files: Iterable[str] = (),
    given: Iterable[str] = (),
    clear: bool = False,
) -> dict[str, str]:
    """The whole environment. ``own`` is ours to say: HOME, PWD and the like win over the caller's.

    ``files`` are the texts of env files, ``given`` the flags. Raises LaunchRefused.
    """
    kept = _WHO if clear else [name for name in caller if not _OF_THE_MACHINE.fullmatch(name)]
    env = {"PATH": USUAL_PATH} | {name: caller[name] for name in kept if name in caller} | dict(own)
    env |= dict(entry.partition("=")[::2] for entry in image if entry.partition("=")[0])
    env = edits.environment(env)
    for prefix in PREFIXES:
        for name, value in caller.items():
            if name.startswith(prefix) and name != prefix:
                env[name.removeprefix(prefix)] = value
    for text in files:
        env |= _changes(_entries(text), caller)
    return env | _changes(given, caller)


def _entries(text: str) -> list[str]:
    """The entries of an env file: one a line, ``#`` begins a comment."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _changes(entries: Iterable[str], caller: Mapping[str, str]) -> dict[str, str]:
    """What entries set: ``NAME=VALUE``, or ``NAME`` for the caller's own value, if there is one."""
    changes = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or " " in name or "\0" in entry:
            raise LaunchRefused(f"{entry!r} sets no variable (write NAME=VALUE, or NAME)")
        if equals:
            changes[name] = value
        elif name in caller:
            changes[name] = caller[name]
    return changes
