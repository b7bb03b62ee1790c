"""``slurm stage-in``: brings a pending job's image to the cluster, before it has nodes.

Slurm's burst_buffer/lua runs it on the controller's machine; the job starts when it has ended.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cache.errors import os_faults
from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.errors import one_line
from registryd.cli.resolving import exact
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from registryd.schedulers.errors import SchedulerRefused
from registryd.schedulers.job import image_in_script, image_of, job_id

#: Seconds in which the controller has answered.
ANSWERS = 30.0
#: Bytes of a batch script that are read: its directives are at its beginning.
SCRIPT_LIMIT = 1 << 20


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("script", metavar="SCRIPT", help="the job's batch script")
    parser.add_argument("--job", metavar="ID", required=True, help="the job's id")
    parser.add_argument("--timeout", metavar="TIME", default="30m", help="(default: 30m)")
    parser.add_argument(
        "--to",
        metavar="FORM",
        choices=("squashfs", "none"),
        default="squashfs",
        help="also make it this, on one node for all (default: squashfs; or none)",
    )
    parser.add_argument(
        "--nodes", metavar="LIST", default=None, help="prefetch to these (default: all)"
    )


def run(context: Context) -> None:
    """Prefetch what the script asks for, and let the job start just that. Raises Fault."""
    options = context.options
    job, path = job_id(options.job), Path(options.script)
    with os_faults(path, SchedulerRefused), path.open("rb") as file:
        text = file.read(SCRIPT_LIMIT).decode(errors="replace")
    said = image_in_script(text.splitlines())
    if said is None:
        return
    image = image_of(said)
    _tell_job(job, f"image={_prefetched(context, image)}")


def _prefetched(context: Context, image: Reference) -> Reference:
    """The image by the digest that was brought to the nodes. Raises Fault."""
    options = context.options
    with backend(context) as chosen:
        if chosen.socket is None:
            raise UsageError("stage-in works through a daemon, and none answers here")
        meant = exact(chosen, image)
        # An image that cannot be made one file is brought as it is: not all jobs need the file.
        if options.to == "none" or _failure(context, chosen, meant, options.to):
            failure = _failure(context, chosen, meant, None)
            if failure:
                raise SchedulerRefused(f"{meant}: {failure}")
    return meant


def _failure(context: Context, chosen: Backend, image: Reference, form: str | None) -> str:
    """Bring an image to the nodes; why no node at all has it, "" if any has. Raises Fault."""
    options = context.options
    where = {"nodes": options.nodes} if options.nodes else {"everywhere": True}
    asked = {"references": [str(image)], "wait": True, "timeout": options.timeout, **where}
    if form is not None:
        asked["convert"] = form
    end = chosen.stream("prefetch", asked, lambda event: None)
    failed = end.get("failed") or []
    return str(failed[0].get("error")) if failed and not end.get("done") else ""


def _tell_job(job: str, comment: str) -> None:
    """What the prolog on each node reads. Raises SchedulerRefused."""
    command = ["scontrol", "update", f"JobId={job}", f"Comment={comment}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SchedulerRefused(f"scontrol: {one_line(error)}") from error
    if done.returncode != 0:
        raise SchedulerRefused(f"scontrol: {' '.join(done.stderr.split())}")
