"""Images that become folders: the file of one, wherever it is, and what is mounted of it.

Invariants:
- a file is named as one (by a path, or by the ending of such files), never guessed from a folder;
- of an image the blob is mounted that the cache keeps, by a descriptor: no copy is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.gateway_images import GATEWAY, handed
from registryd.cli.platforms import single_preferred
from registryd.oci.reference import Reference

#: What names a file and no image.
ENDINGS = (".sqsh", ".sqfs", ".squash", ".squashfs", ".sfs", ".sif")
BEGINNINGS = ("/", "./", "../")


@dataclass(frozen=True, slots=True)
class Source:
    """A file with a squashfs: by path or descriptor, what it is of, and its digest if it has one.

    ``digest`` is that of the image's manifest.
    """

    file: Path | int
    image: str
    key: str = ""
    digest: str | None = None


def is_file(name: str) -> bool:
    """Whether a name means a file."""
    return name.startswith(BEGINNINGS) or name.endswith(ENDINGS)


@contextmanager
def mountable(context: Context, name: str) -> Iterator[Source]:
    """An image of the cache made a squashfs (where that is not done yet), or a file. Raises Fault.

    The descriptor is closed afterwards.
    """
    if is_file(name):
        path = Path(name).absolute()
        yield Source(path, str(path))
        return
    if name.startswith(GATEWAY):
        given = handed(context, name.removeprefix(GATEWAY))
        try:
            yield Source(given.file, name, str(given.said.get("content")), given.digest)
        finally:
            os.close(given.file)
        return
    from registryd.cli.conversions import convert, wanted
    from registryd.cli.logins import login_for

    reference = Reference.parse(name)
    asked = wanted(context, "squashfs", single_preferred(context))
    with backend(context, reference.registry) as chosen:
        done = convert(context, chosen, reference, asked)
        blob, digest = str(done["blob"]), str(done["digest"])
        login = login_for(context, reference.registry, reference.repository)
        file = chosen.opened(str(reference), blob, login)
    try:
        yield Source(file, str(reference), blob, digest)
    finally:
        os.close(file)
