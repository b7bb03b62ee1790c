"""From a wish to the command, in the usual way: alone, or in company of the same job.

Invariant: whatever fails here ends the process, and the kernel takes everything else away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import NoReturn

from registryd.launch import kernel, native
from registryd.launch.edits import Edits
from registryd.launch.files import Files, Machine
from registryd.launch.image_mount import Server
from registryd.launch.plan import Launch, Wish, plan
from registryd.launch.sharing import Company, own_folder, tidy


@dataclass(frozen=True, slots=True)
class Rootfs:
    """Where the image's files are: a folder, or a squashfs that is served by a program.

    ``image`` is an open descriptor; the squashfs begins at ``offset``.
    """

    folder: str = ""
    image: int = -1
    offset: int = 0
    program: Path | None = None


def start(
    wish: Wish,
    rootfs: Callable[[], Rootfs],
    *,
    folder: Path,
    key: str,
    rest: Callable[[str | None], Edits],
    told: Callable[[str], None],
) -> NoReturn:
    """Become the command. ``folder`` is ours alone, ``key`` what the company shares ("" for none).

    ``rootfs`` is asked for where the image is not seen already; ``rest`` says what its files need
    besides, None where they are seen already. Raises LaunchFailed, LaunchRefused.
    """
    own_folder(folder)
    company = Company(folder, f"{key}\0{wish.shape}") if key else None
    if company is not None and company.enter():
        company.join()
        launch = plan(_with(wish, rest(None)), Files(), None)
        if kernel.outermost():
            native.become(launch.user)
        told("runtime: native, with the others of the same job and image")
        native.give_up()
        native.begin(launch)
    tidy(folder, time())
    base = own_folder((folder if company is None else company.folder) / "base")
    launch = _built(wish, rootfs(), str(base), company, rest)
    told("runtime: native")
    native.give_up()
    native.begin(launch)


def start_by(
    runtime: str,
    wish: Wish,
    rootfs: Rootfs,
    *,
    folder: Path,
    rest: Callable[[str | None], Edits],
    told: Callable[[str], None],
) -> int:
    """Have another program start the command; its exit code. The image is a folder that is seen.

    Raises LaunchFailed, LaunchRefused.
    """
    from registryd.launch.supervised import run

    own_folder(folder)
    wish = _with(wish, rest(rootfs.folder))
    launch = plan(wish, Files(rootfs.folder), Machine())
    told(f"runtime: {runtime}")
    return run(launch, runtime, folder)


def _with(wish: Wish, edits: Edits) -> Wish:
    return replace(wish, edits=wish.edits + edits)


def _built(
    wish: Wish,
    rootfs: Rootfs,
    base: str,
    company: Company | None,
    rest: Callable[[str | None], Edits],
) -> Launch:
    """Make the view and enter it; what is to begin there. Raises LaunchFailed, LaunchRefused."""
    server = None
    if not rootfs.folder and rootfs.program is not None:
        server = Server(rootfs.program, rootfs.image, rootfs.offset)
    native.leave()
    image = native.furnish(base)
    if server is not None:
        server.serve(image)
        os.close(rootfs.image)
    root = rootfs.folder or image
    launch = plan(_with(wish, rest(root)), Files(root), Machine())
    if company is not None:
        company.join()
    native.build(launch.steps, base)
    native.become(launch.user)
    return launch
