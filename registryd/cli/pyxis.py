"""registryd-pyxis-importer: an image of the cache as the squashfs that pyxis starts a step from.

pyxis runs ``get URI`` as the user, once for a step and node, and reads a path from stdout; later,
once or twice, ``release``. Invariants:
- stdout is the path and nothing else; progress and words go to stderr;
- the file is in a folder of the user's own and stays until ``release``, and so does a pin;
- of a ``get`` that fails nothing is left; a ``release`` of what is not there is a success.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cache.content import Digest
from cache.errors import Fault, PinNotFound
from registryd.cli.arguments import DEFAULTS
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.errors import ending
from registryd.cli.signals import end_as_interrupted
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from registryd.schedulers.pyxis import Step, image_of_uri, step_of
from registryd.schedulers.squash_folder import SquashFolder
from registryd.units import parse_duration

PROGRAM = "registryd-pyxis-importer"
#: Where the files are, unless a site says otherwise: on a disk, as memory is for jobs.
FOLDER_VARIABLE, USUAL_FOLDER = "REGISTRYD_PYXIS_FOLDER", "/var/tmp/registryd-{uid}"  # noqa: S108 (a folder of the user's own, which is proven)
#: The pin ends after this at the latest, and the file goes, should nobody release it.
KEPT = "8d"


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; the exit code."""
    end_as_interrupted()
    console = Console(sys.stdout, sys.stderr, sys.stdin)
    try:
        _run(sys.argv[1:] if words is None else words, console, os.environ)
        console.flush()
    except BaseException as error:
        code, line = ending(error)
        if line:
            console.words(f"{PROGRAM}: {line}")
        return code
    return 0


def _run(words: Sequence[str], console: Console, environ: Mapping[str, str]) -> None:
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    context = Context(argparse.Namespace(**DEFAULTS), console, environ, home)
    match list(words):
        case ["get", uri]:
            console.line(str(get(context, image_of_uri(uri), step_of(environ))))
        case ["release"]:
            release(context, step_of(environ))
        case _:
            raise UsageError(f"usage: {PROGRAM} get URI | release")


def _folder(environ: Mapping[str, str]) -> SquashFolder:
    named = environ.get(FOLDER_VARIABLE)
    return SquashFolder(Path(named or USUAL_FOLDER.format(uid=os.geteuid())).absolute())


def get(context: Context, image: Reference, step: Step) -> Path:
    """The image as a squashfs that stays until ``release``. Raises Fault."""
    folder = _folder(context.environ)
    folder.sweep(time.time() - parse_duration(KEPT))
    with backend(context, image.registry) as chosen:
        try:
            return _got(context, chosen, image, step, folder)
        except BaseException:
            with suppress(Fault):
                _release(chosen, step, folder)
            raise


def _got(
    context: Context, chosen: Backend, image: Reference, step: Step, folder: SquashFolder
) -> Path:
    from registryd.cli import conversions, wording
    from registryd.cli.logins import login_for
    from registryd.cli.resolving import exact

    login = login_for(context, image.registry, image.repository)
    meant = exact(chosen, image, login)
    asked = {"reference": str(meant), "name": step.pin, "lasting": KEPT}
    chosen.call("pin", asked, login)
    done = conversions.convert(context, chosen, meant, {"form": "squashfs"})
    size = wording.size(int(done["size"]))
    took = f"{float(done['seconds']):.1f} s"
    context.console.words(f"registryd: {image}: {meant.digest}, {size} in {took}")
    digest = Digest.parse(str(done["blob"]))
    path = folder.link(step.file, digest)
    if path is None:
        path = folder.path / step.file
        conversions.take_out(context, chosen, meant, done, "squashfs", path)
        folder.share(step.file, digest)
    return path


def release(context: Context, step: Step) -> None:
    """Let go of what a step had; a success where that is nothing. Raises Fault."""
    folder = _folder(context.environ)
    with backend(context) as chosen:
        _release(chosen, step, folder)


def _release(chosen: Backend, step: Step, folder: SquashFolder) -> None:
    folder.drop(step.file)
    try:
        chosen.call("unpin", {"name": step.pin})
    except Fault as fault:
        if ending(fault)[0] != PinNotFound.exit_code:
            raise


if __name__ == "__main__":
    sys.exit(main())
