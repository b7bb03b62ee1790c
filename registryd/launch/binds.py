"""Binds as people write them, and the places that none may cover.

``SRC[:DST[:OPTIONS]]``, several with commas between them, as singularity has them; docker's form is
one of these. OPTIONS are ``ro`` or ``rw``, and words of other tools that change nothing here.
"""

from __future__ import annotations

import os
from typing import Final

from registryd.launch.edits import Bind, absolute
from registryd.launch.errors import LaunchRefused

#: Folders that are the system of an image, or the kernel's own: nothing may take their place.
SYSTEM: Final = frozenset(
    f"/{name}"
    for name in (
        "",
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "proc",
        "sbin",
        "sys",
        "usr",
        "var",
    )
)
#: Below these nothing is bound either: what is there is the kernel's.
_KERNEL: Final = ("/proc/", "/sys/")
#: Words for SELinux's labels and for propagation: neither is needed where nothing is relabelled.
_NO_OPTIONS: Final = frozenset(
    ("z", "Z", "bind", "rbind", "private", "rprivate", "slave", "rslave", "nosuid", "nodev")
)


def read_binds(text: str, cwd: str) -> list[Bind]:
    """The binds in one flag; a relative source begins at ``cwd``. Raises LaunchRefused."""
    binds: list[list[str]] = []
    for piece in text.split(","):
        if binds and piece and not piece.startswith(("/", ".")):
            binds[-1].append(piece)
        else:
            binds.append([piece])
    return [_read(first, more, cwd) for first, *more in binds]


def _read(text: str, more: list[str], cwd: str) -> Bind:
    parts = text.split(":")
    if not parts[0] or len(parts) > 3:
        raise LaunchRefused(f"{text!r} is no bind (write SRC:DST, or SRC:DST:ro)")
    if not parts[0].startswith(("/", ".")):
        raise LaunchRefused(
            f"{parts[0]!r} is no path: volumes with a name do not exist here (write /SRC:/DST)"
        )
    source = os.path.normpath(os.path.join(cwd, parts[0]))
    target = parts[1] if len(parts) > 1 and parts[1] else source
    words = [word for word in (*parts[2:], *more) if word]
    unknown = [word for word in words if word not in _NO_OPTIONS | {"ro", "rw"}]
    if unknown:
        raise LaunchRefused(f"{unknown[0]!r} is no option of a bind (use ro or rw)")
    return allowed(Bind(source, target, read_only="ro" in words))


def allowed(bind: Bind) -> Bind:
    """The same bind. Raises LaunchRefused where it would hide a system folder."""
    if shadows(bind.target):
        raise LaunchRefused(
            f"nothing is bound to {bind.target}: that is the image's system, or the kernel's"
            " (bind to a folder or file below, or to another place)"
        )
    return bind


def shadows(target: str) -> bool:
    """Whether a mount there would hide the image's system, or be in the kernel's."""
    return absolute(target, "the target") in SYSTEM or target.startswith(_KERNEL)
