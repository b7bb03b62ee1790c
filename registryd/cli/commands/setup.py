"""``setup``: files that make a runtime ask the daemon first; and the same taken away again.

Only files of its own: another's is never changed, and a line says what to put into it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registryd.cli.arguments import Parser
from registryd.cli.command import PROGRAM, Context
from registryd.oci.errors import UsageError
from registryd.runtimes import disk
from registryd.runtimes.errors import SetupBlocked, SetupLeft
from registryd.runtimes.plan import BESIDE, DEFAULT_ADDRESS, Decision, Plan, Runtime
from registryd.runtimes.table import ALIASES, RUNTIMES


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    also = ", ".join(f"{name} = {meant}" for name, meant in ALIASES.items())
    parser.add_argument(
        "runtime", metavar="RUNTIME", help=f"one of {', '.join(RUNTIMES)} (also {also})"
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=None,
        help=f"where the daemon listens (default: as the running one says, else {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--registry",
        metavar="HOST",
        action="append",
        default=None,
        help="for this registry; repeatable (default: the well-known ones; containerd: all)",
    )
    parser.add_argument(
        "--program",
        metavar="PATH",
        default=None,
        help="slurm: where registryctl is on the nodes (default: this one)",
    )
    parser.add_argument("--prefix", metavar="DIR", default="/", help="DIR/etc instead of /etc")
    parser.add_argument(
        "--dry-run", action="store_true", default=False, help="print what would be, write nothing"
    )
    parser.add_argument(
        "--undo", action="store_true", default=False, help="remove what setup has written"
    )


@dataclass(frozen=True, slots=True)
class Job:
    """One runtime below one prefix."""

    name: str
    runtime: Runtime
    prefix: Path
    dry: bool

    def shown(self, path: str) -> str:
        """A path of ours as people know it."""
        return str(self.prefix / path)


def run(context: Context) -> None:
    """Set a runtime up, or undo it. Raises Fault."""
    options = context.options
    name = ALIASES.get(options.runtime, options.runtime)
    if name not in RUNTIMES:
        raise UsageError(f"there is no runtime {name!r} (there are {', '.join(RUNTIMES)})")
    prefix = Path(options.prefix).absolute()
    if not prefix.is_dir():
        raise UsageError(f"--prefix {prefix} is not a directory")
    job = Job(name, RUNTIMES[name], prefix, options.dry_run)
    if options.undo:
        _undo(context, job)
    else:
        _set_up(context, job)


def _set_up(context: Context, job: Job) -> None:
    program = context.options.program or _program()
    plan = Plan(_address(context), tuple(context.options.registry or ()), program)
    seen = disk.look(job.prefix, job.runtime.LOOKS)
    decision = job.runtime.decide(plan, seen)
    steps = disk.steps(job.prefix, decision.files, seen)
    for step in steps:
        if step.state != "same" and not job.dry:
            disk.write(job.prefix, step)
    left = (*decision.todo, *decision.exceptions)
    if context.options.format == "json":
        _tell_json(context, job, plan, decision, steps)
    else:
        _tell(context, job, decision, steps)
    if left:
        raise _unfinished(context, left, some=bool(steps))


def _address(context: Context) -> str:
    """--address, else the first of the running daemon's, else the usual one."""
    from registryd.cli.node_socket import running

    if context.options.address:
        return str(context.options.address)
    daemon = running(context)
    return daemon.addresses[0] if daemon and daemon.addresses else DEFAULT_ADDRESS


def _program() -> str:
    """This program, as others can call it."""
    own = Path(sys.argv[0]).absolute()
    return str(own if own.name == PROGRAM else Path(sys.prefix) / "bin" / PROGRAM)


def _tell(context: Context, job: Job, decision: Decision, steps: Sequence[disk.Step]) -> None:
    console = context.console
    done = [step for step in steps if step.state != "same"]
    for step in done:
        if job.dry:
            _print_difference(context, job, step)
        else:
            console.line(f"{step.state}: {job.shown(step.path)}")
    for command in decision.commands:
        console.line(command)
    if not (done or decision.todo or decision.commands):
        console.line(f"nothing to do: {job.name} is set up")
    if not context.options.quiet:
        for note in decision.notes:
            console.words(f"note: {note}")


def _print_difference(context: Context, job: Job, step: disk.Step) -> None:
    name = job.shown(step.path)
    old = "/dev/null" if step.before is None else name
    before, after = (step.before or "").splitlines(), step.after.splitlines()
    for line in difflib.unified_diff(before, after, old, name, lineterm=""):
        context.console.line(line)
    if step.beside is not None:
        context.console.line(f"and its mark in {name}{BESIDE}")


def _tell_json(
    context: Context, job: Job, plan: Plan, decision: Decision, steps: Sequence[disk.Step]
) -> None:
    files = [{"path": job.shown(s.path), "state": s.state, "content": s.after} for s in steps]
    context.console.json(
        {
            "runtime": job.name,
            "address": plan.address,
            "dry_run": job.dry,
            "files": files,
            "commands": list(decision.commands),
            "todo": [*decision.todo, *decision.exceptions],
            "notes": list(decision.notes),
        }
    )


def _unfinished(context: Context, left: Sequence[str], *, some: bool) -> SetupBlocked | SetupLeft:
    """Tell what a person has to do; the error to end with."""
    kind = SetupLeft if some else SetupBlocked
    if len(left) == 1:
        return kind(left[0])
    for line in left:
        context.console.words(f"left for you: {line}")
    return kind(f"{len(left)} things are left for you to do, see above")


def _undo(context: Context, job: Job) -> None:
    """Remove what is ours, and say what is no longer. Raises SetupBlocked, SetupLeft."""
    owned = disk.owned(disk.look(job.prefix, job.runtime.LOOKS))
    for own in owned:
        if own.unchanged and not job.dry:
            disk.remove(job.prefix, own)
    removed = [job.shown(own.path) for own in owned if own.unchanged]
    kept = [
        f"{job.shown(own.path)} was changed since it was written, and stays as it is:"
        f" remove it by hand{f', with {own.path}{BESIDE}' if own.beside else ''}"
        for own in owned
        if not own.unchanged
    ]
    if context.options.format == "json":
        context.console.json({"runtime": job.name, "removed": removed, "todo": kept})
    else:
        for path in removed:
            context.console.line(f"{'would remove' if job.dry else 'removed'}: {path}")
        if not owned:
            context.console.line(f"nothing to do: setup has written nothing for {job.name}")
    if kept:
        raise _unfinished(context, kept, some=bool(removed))
