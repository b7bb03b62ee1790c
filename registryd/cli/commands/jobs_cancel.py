"""``jobs cancel``: a job ends on all its nodes."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.several import each


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("jobs_named", metavar="ID", nargs="+")


def run(context: Context) -> None:
    """End each job; its id on stdout. Raises Fault; Partly when only some could be ended."""
    console = context.console
    with backend(context) as chosen:

        def cancel(id: str) -> None:
            result = chosen.call("cancel", {"id": id})
            if context.options.format == "json":
                console.json(result)
            else:
                console.line(id)

        each(console, context.options.jobs_named, cancel)
    if not context.options.quiet:
        console.words("nodes stop waiting; what is on its way to them goes on to its end")
