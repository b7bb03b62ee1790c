"""Many images at once, and how that is told: a line for each on stderr, a table, or JSON.

Invariant: the exit code is 0 only when every image is at both ends, as far as it is wanted there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from time import monotonic
from typing import Any

import uvloop

from registryd.cli import progress, wording
from registryd.cli.backend import Backend, Event, backend
from registryd.cli.command import Context
from registryd.cli.copy_flags import SIDES
from registryd.cli.ends import Ends
from registryd.cli.errors import Partly
from registryd.cli.progress import PlainProgress, Progress
from registryd.cli.tables import Column
from registryd.notices import Notices
from registryd.sync.errors import OutOfStep
from registryd.sync.plan import ImageStep, Plan, RepositoryStep
from registryd.sync.run import USUAL_JOBS, How, Outcome, carry_out
from registryd.transfer.report import notice

COLUMNS = (
    Column("STATE"),
    Column("SOURCE"),
    Column("TARGET"),
    Column("DIGEST"),
    Column("SENT", right=True),
)
#: How each state is said of a rehearsal.
WOULD = {"copied": "would copy"}


def mirror(
    context: Context, plan: Plan, *, keep_going: bool = False, look: bool = False
) -> list[Outcome]:
    """Carry a plan out, and tell of it; ``judge`` says whether that was a success. Raises Fault."""
    options = context.options
    for note in plan.notes:
        context.console.words(f"note: {note}")
    rehearse = bool(getattr(options, "dry_run", False))
    started = monotonic()
    with ExitStack() as stack:
        cache = stack.enter_context(backend(context)) if _needs_cache(plan) else None
        show = stack.enter_context(progress.shown(context))
        told_of: Progress = _ImagesOnly() if isinstance(show, PlainProgress) else show
        how = How(
            jobs=options.jobs or plan.jobs or USUAL_JOBS,
            keep_going=keep_going,
            look=look,
            rehearse=rehearse,
            clobber=not getattr(options, "no_clobber", False),
            report=progress.warned(context, told_of),
            told=lambda outcome: _say(context, show, outcome, rehearse),
        )
        outcomes = _carried_out(context, plan, cache, how)
    _tell(context, outcomes, rehearse, monotonic() - started)
    return outcomes


def _carried_out(context: Context, plan: Plan, cache: Backend | None, how: How) -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with AsyncExitStack() as stack:
            notices = Notices()
            stack.enter_context(notices.heard("", lambda told: how.report(notice(told))))
            ends = Ends(
                context,
                cache,
                stack,
                sides=SIDES,
                doors=plan.doors,
                files=plan.files,
                notices=notices,
            )
            return await carry_out(plan, ends, how)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _needs_cache(plan: Plan) -> bool:
    return any(
        "cache" in (step.source.transport, step.target.transport)
        for step in plan.steps
        if isinstance(step, (ImageStep, RepositoryStep))
    )


class _ImagesOnly:
    """Progress without blobs: in plain lines they would bury the images."""

    def __call__(self, event: Event) -> None:
        """One event."""

    def close(self) -> None:
        """Nothing was opened."""


def _say(context: Context, show: Progress, outcome: Outcome, rehearse: bool) -> None:
    """One image is done."""
    if isinstance(show, progress.JsonProgress):
        show({"event": "image", **outcome.as_json()})
        return
    if context.options.quiet and outcome.state != "failed":
        return
    if outcome.state == "unchanged" and not context.options.verbose:
        return
    if context.options.progress == "none" and outcome.state != "failed":
        return
    state = WOULD.get(outcome.state, outcome.state) if rehearse else outcome.state
    words = f"{state}: {outcome.source} -> {outcome.target}"
    why = outcome.reason or (str(outcome.fault) if outcome.fault is not None else "")
    if why:
        words += f": {' '.join(why.split())}"
    elif outcome.whole is not None and outcome.state == "copied":
        words += f" ({wording.size(outcome.whole.sent)})"
    context.console.words(words)


def _tell(context: Context, outcomes: Sequence[Outcome], rehearse: bool, seconds: float) -> None:
    """The result on stdout; a line of numbers on stderr."""
    counts = Counter(outcome.state for outcome in outcomes)
    sent = sum(outcome.whole.sent for outcome in outcomes if outcome.whole is not None)
    if context.options.format == "json":
        result: dict[str, Any] = {
            "images": [outcome.as_json() for outcome in outcomes],
            **{state: counts[state] for state in ("copied", "unchanged", "skipped", "failed")},
            "sent": sent,
            "seconds": round(seconds, 3),
            "dry_run": rehearse,
        }
        if counts["differs"]:
            result["differs"] = counts["differs"]
        context.console.json(result)
    else:
        rows = [_row(outcome, rehearse) for outcome in outcomes if _is_news(context, outcome)]
        if rows:
            context.console.table(COLUMNS, rows)
    if context.options.quiet or context.options.progress in ("none", "json"):
        return
    verb = "would send" if rehearse else "sent"
    numbers = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    context.console.words(
        f"{numbers or 'no images'}; {verb} {wording.size(sent)} in {seconds:.1f} s"
    )


def _is_news(context: Context, outcome: Outcome) -> bool:
    return outcome.state != "unchanged" or not context.options.quiet


def _row(outcome: Outcome, rehearse: bool) -> list[str]:
    whole = outcome.whole
    state = WOULD.get(outcome.state, outcome.state) if rehearse else outcome.state
    digest = str(whole.image.descriptor.digest) if whole is not None else "-"
    return [
        state,
        outcome.source,
        outcome.target,
        wording.short(digest),
        wording.size(whole.sent) if whole is not None else "-",
    ]


def judge(outcomes: Sequence[Outcome], *, keep_going: bool) -> None:
    """Nothing, where all is well.

    Raises the failure itself when nothing succeeded or the run ended by it, Partly when some have
    failed, OutOfStep when a look has found differences.
    """
    faults = [outcome.fault for outcome in outcomes if outcome.fault is not None]
    if faults:
        well = [outcome for outcome in outcomes if outcome.state in ("copied", "unchanged")]
        if keep_going and well:
            raise Partly(f"{len(faults)} of {len(outcomes)} failed") from faults[0]
        raise faults[0]
    different = [outcome for outcome in outcomes if outcome.state == "differs"]
    if different:
        raise OutOfStep(f"{len(different)} of {len(outcomes)} are not the same at both ends")
