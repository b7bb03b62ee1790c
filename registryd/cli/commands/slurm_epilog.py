"""``slurm epilog``: what a job's prolog has kept on this node is kept no longer; Slurm's Epilog.

Invariant: it ends with 0 whatever happens, as an epilog that fails drains its node.
"""

from __future__ import annotations

import os
from pathlib import Path

from cache.errors import Fault, PinNotFound
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.errors import ending
from registryd.schedulers.job import Job, job_id
from registryd.schedulers.record import FOLDER, file_of


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--state", metavar="DIR", default=FOLDER, help=f"default: {FOLDER}")


def run(context: Context) -> None:
    """End the pin, take the record and what is mounted and dead away; what fails is said."""
    folder = Path(context.options.state)
    try:
        id = job_id(context.environ.get("SLURM_JOB_ID", ""))
        if (folder / file_of(id)).exists():
            _clear_mounts(context.environ.get("SLURM_JOB_UID", ""))
            _end(context, folder, Job(id, 0))
    except Fault as fault:
        context.console.words(f"registryctl: {ending(fault)[1]}")


def _clear_mounts(uid: str) -> None:
    """Slurm has ended the job's processes, those that served a mount among them."""
    from registryd.mounts.dead import clear

    if uid.isascii() and uid.isdecimal() and os.geteuid() == 0:
        clear(int(uid))


def _end(context: Context, folder: Path, job: Job) -> None:
    from registryd.schedulers.record_files import remove

    try:
        with backend(context) as chosen:
            if chosen.socket is not None:  # pins are in the daemon's cache, and in no other
                chosen.call("unpin", {"name": job.pin})
    except Fault as fault:
        # A prolog that failed early has pinned nothing.
        if ending(fault)[0] != PinNotFound.exit_code:
            raise
    finally:
        remove(folder, job.id)
