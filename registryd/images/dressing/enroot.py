"""What enroot and pyxis look for in an image: ``/etc/rc``, ``/etc/fstab``, ``/etc/environment``.

Invariants:
- the program starts in the image's working folder, with its words as they are;
- a variable has its exact value: what enroot would change on its way through the file (lines, and
  names in braces, which it replaces) is set by the script instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from registryd.images.dressing.pieces import (
    Piece,
    quoted,
    script,
    unless_set,
    variables,
    words,
)
from registryd.oci.image_config import ImageConfig

#: What it replaces, by what its own environment has.
_REPLACED = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|[\n\r]")
#: What it takes away around a value.
_MARKS: Final = ("'", '"')
#: A path that fstab has as it is.
_PLAIN = re.compile(r"/[A-Za-z0-9/._+@,~-]+")
_MOUNT: Final = "${{ENROOT_ROOTFS}}{0} {0} none x-create=dir,bind,rw,nosuid,nodev\n"


def pieces(config: ImageConfig, volumes: Sequence[str]) -> tuple[Piece, ...]:
    """The files for an image with this configuration; ``volumes`` are paths in normal form."""
    exact: list[str] = []
    by_script: list[str] = []
    for name, value in variables(config.env):
        if _REPLACED.search(value):
            by_script.append(unless_set(name, value))
        else:
            exact.append(f"{name}={_marked(value)}\n")
    mounts = (_MOUNT.format(each) for each in volumes if _PLAIN.fullmatch(each))
    return (
        Piece("etc/environment", "".join(exact).encode()),
        Piece("etc/fstab", "".join(mounts).encode()),
        script("etc/rc", *_lines(config, by_script)),
    )


def _marked(value: str) -> str:
    """A value with marks around it where those that it has would be taken away."""
    return f'"{value}"' if value.startswith(_MARKS) else value


def _lines(config: ImageConfig, before: Sequence[str]) -> list[str]:
    folder = quoted(config.working_dir.replace("\0", "") or "/")
    entrypoint, cmd = words(config.entrypoint), words(config.cmd)
    if not entrypoint and not cmd:
        cmd = "/bin/sh"
    return [
        f"mkdir -p -- {folder} 2>/dev/null",
        f"cd -- {folder} || exit 1",
        "unset OLDPWD",
        *before,
        f"[ $# -gt 0 ] || set -- {cmd}",
        f'set -- {entrypoint} "$@"',
        'exec "$@"',
    ]
