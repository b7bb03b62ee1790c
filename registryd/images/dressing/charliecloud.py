"""What charliecloud looks for in an image: ``/ch/environment``, and folders to mount on.

Invariant: a line of the file is a whole variable; values of several lines cannot be in it.
"""

from __future__ import annotations

from typing import Final

from registryd.images.dressing.pieces import Piece, folder, variables
from registryd.oci.image_config import ImageConfig

#: ``ch-run -b SOURCE`` mounts on these, one after another.
_MOUNTS: Final = 10


def pieces(config: ImageConfig) -> tuple[Piece, ...]:
    """The files for an image with this configuration."""
    known = ((name, value) for name, value in variables(config.env) if "\n" not in value)
    # Marks around a value are taken away, so that those that it has itself stay.
    lines = (f"{name}='{value}'\n" for name, value in known)
    return (
        Piece("ch/environment", "".join(lines).encode()),
        *(folder(f"mnt/{number}") for number in range(_MOUNTS)),
    )
