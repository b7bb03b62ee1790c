"""``slurm prolog``: brings the image of a job to this node before its first step; Slurm's Prolog.

Invariants:
- it ends with 0 whatever happens, as a prolog that fails drains its node: what went wrong is in
  the job's record, and the task prolog tells the step;
- the image is pinned by its digest before it is fetched, until the epilog or ``--keep`` ends it;
- it needs no PATH and no HOME.
"""

from __future__ import annotations

import time
from pathlib import Path

from cache.errors import Fault
from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.errors import DaemonUnreachable, ending
from registryd.oci.reference import Reference
from registryd.schedulers.job import Job, job_id, job_of, kept_for
from registryd.schedulers.record import FOLDER, Record

#: Slurm ends a prolog after PrologEpilogTimeout, if that is set; this is before people give up.
USUAL_TIMEOUT = "5m"
#: Before 23.02 Slurm does not tell a prolog when its job must end: longer than jobs usually may
#: last. The epilog ends the pin long before.
USUAL_KEEP = "8d"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        default=USUAL_TIMEOUT,
        help=f"give up after this time (default: {USUAL_TIMEOUT})",
    )
    parser.add_argument(
        "--keep",
        metavar="TIME",
        default=USUAL_KEEP,
        help=f"the pin's longest, where Slurm does not say the job's (default: {USUAL_KEEP})",
    )
    parser.add_argument(
        "--to",
        metavar="FORM",
        choices=("squashfs", "none"),
        default="squashfs",
        help="also make it this, which run and mount start from (default: squashfs; or none)",
    )
    parser.add_argument("--state", metavar="DIR", default=FOLDER, help=f"default: {FOLDER}")


def run(context: Context) -> None:
    """Prefetch and pin, if the job asks for an image; what fails is recorded and said."""
    folder = Path(context.options.state)
    try:
        job = job_of(context.environ)
    except Fault as fault:
        _unreadable(context, folder, fault)
        return
    if job.image is None:
        return
    try:
        _prefetch(context, folder, job, job.image)
    except Fault as fault:
        context.console.words(f"registryctl: {ending(fault)[1]}")


def _unreadable(context: Context, folder: Path, fault: Fault) -> None:
    """A job whose image has no readable name: its steps are told, if it is a job at all."""
    from registryd.schedulers.record_files import write

    code, line = ending(fault)
    context.console.words(f"registryctl: {line}")
    try:
        id, uid = job_id(context.environ.get("SLURM_JOB_ID", "")), context.environ["SLURM_JOB_UID"]
        write(folder, id, Record("failed", "its image", code=code, error=line), uid=int(uid))
    except (Fault, KeyError, ValueError):
        return


def _prefetch(context: Context, folder: Path, job: Job, image: Reference) -> None:
    """Bring it, and let the record say how that went. Raises RecordUnwritable, DiskFull."""
    from registryd.cli.deadline import deadline
    from registryd.cli.resolving import exact
    from registryd.schedulers.record_files import write
    from registryd.units import parse_duration

    def say(record: Record) -> None:
        write(folder, job.id, record, uid=job.uid)

    say(Record("fetching", str(image)))
    try:
        limit = parse_duration(context.options.timeout)
        with deadline(limit, "--timeout"), backend(context) as chosen:
            _need_daemon(chosen)
            meant = exact(chosen, image)
            say(Record("fetching", str(image), str(meant)))
            note = _bring(context, chosen, job, meant)
    except Fault as fault:
        code, line = ending(fault)
        say(Record("failed", str(image), code=code, error=line))
        context.console.words(f"registryctl: {line}")
    else:
        say(Record("ready", str(image), str(meant), error=note))


def _need_daemon(chosen: Backend) -> None:
    """Raise DaemonUnreachable where this process would fetch into a cache of root's own."""
    if chosen.socket is None:
        raise DaemonUnreachable("no daemon answers here (start registryd on this node)")


def _bring(context: Context, chosen: Backend, job: Job, image: Reference) -> str:
    """Pin and fetch it, and make it what is started; why it could not be made that, if so.

    An image that is here and cannot be converted is no reason to end a job: not all need that.
    """
    from registryd.units import format_duration

    known = kept_for(context.environ, now=time.time())
    lasting = context.options.keep if known is None else format_duration(round(known))
    chosen.call("pin", {"reference": str(image), "name": job.pin, "lasting": lasting})
    chosen.stream("pull", {"reference": str(image)}, lambda event: None)
    if context.options.to == "none":
        return ""
    try:
        asked = {"reference": str(image), "form": context.options.to}
        chosen.stream("convert", asked, lambda event: None)
    except Fault as fault:
        context.console.words(f"registryctl: {ending(fault)[1]}")
        return ending(fault)[1]
    return ""
