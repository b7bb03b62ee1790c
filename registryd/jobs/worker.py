"""The worker of a node: brings what jobs want here, a few at a time, and says how far it is.

Invariants:
- what is to be done is decided in ``take``, at once and without waiting; tasks only do it;
- a tag that a job names means the job's digest here until the job ends, also while it is brought;
- a job that was done and is taken again costs nothing where its images are still here: a pull of
  what is held asks nobody;
- a job that ends early ends here too; bytes that are on their way go on for whoever else waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from cache.content import Digest
from cache.errors import Fault
from registryd.jobs.board import Board
from registryd.jobs.errors import JobInvalid
from registryd.jobs.record import Image, Job
from registryd.jobs.standing import Arrivals, Stage, Standing, line_of
from registryd.oci.reference import Reference
from registryd.transfer.report import Event, Report
from registryd.transfer.tag_policy import TagPolicy

#: Jobs that a node works on at the same time, and images of one job.
JOBS_AT_ONCE: Final = 2
IMAGES_AT_ONCE: Final = 4
#: Seconds between two words on a job whose state has not changed, and while nothing moves.
EVERY: Final = 1.0
AT_LEAST: Final = 10.0
#: Seconds after which nobody waits for a word of who hears of a job by its end.
RECENT: Final = 600.0

_log = logging.getLogger(__name__)


class Pull(Protocol):
    """How an image is brought: ``Operations.pull``, in the name of the daemon's owner."""

    async def __call__(
        self,
        reference: str,
        *,
        platforms: tuple[str, ...],
        all_platforms: bool,
        report: Report,
    ) -> None:
        """Make an image present. Raises Fault."""


class Convert(Protocol):
    """How an image that is here is made one file, in the name of the daemon's owner."""

    async def __call__(
        self, reference: str, *, recipe: str, platforms: tuple[str, ...], report: Report
    ) -> None:
        """Make it, for each of these platforms or for this node's own. Raises Fault."""


class Worker:
    """The jobs of one node, which is called ``me``."""

    def __init__(
        self,
        me: str,
        board: Board,
        policy: TagPolicy,
        *,
        clock: Callable[[], float],
        at_once: int = JOBS_AT_ONCE,
    ) -> None:
        self._me = me
        self._board = board
        self._policy = policy
        self._clock = clock
        self._slots = asyncio.Semaphore(at_once)
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, Standing] = {}
        self._group: asyncio.TaskGroup | None = None
        self._pull: Pull | None = None
        self._convert: Convert | None = None

    async def run(self, pull: Pull, convert: Convert | None = None) -> None:
        """Work on what is on the board until cancelled."""
        self._pull, self._convert = pull, convert
        async with asyncio.TaskGroup() as self._group:
            await self._board.run(self._take)

    def _take(self, job: Job) -> None:
        """What is taken from the board: one job that fails here must not stop the next."""
        try:
            self.take(job)
        except Exception:
            _log.exception("job not taken: job=%s", job.id)

    def jobs(self) -> Mapping[str, Job]:
        """The jobs that were taken, by id."""
        return self._jobs

    def take(self, job: Job) -> None:
        """Begin, go on or end, as this revision of a job says."""
        now, before = self._clock(), self._jobs.get(job.id)
        if before is not None and before.revision >= job.revision:
            return
        self._forget(now)
        self._jobs[job.id] = job
        if not job.runs(now) or not job.is_for(self._me):
            self._end(job)
            return
        self._policy.hold(job.id, _pins(job), job.until)
        task = self._running(job.id)
        if before is not None and before.images == job.images and self._stands(job, task):
            return
        if task is not None:
            task.cancel()
        assert self._group is not None  # noqa: S101 - run() is what calls this
        self._say(Standing(job.id, self._me, job.revision))
        started = self._tasks[job.id] = self._group.create_task(self._work(job))
        started.add_done_callback(lambda done: self._settled(job.id, done))

    def _stands(self, job: Job, task: asyncio.Task[None] | None) -> bool:
        """Whether the revision before is as good; then it is said of this one too."""
        last = self._last.get(job.id)
        if last is None or (task is None and last.stage != "done"):
            return False
        self._say(replace(last, revision=job.revision))
        return True

    def _end(self, job: Job) -> None:
        self._policy.release(job.id)
        task, last = self._running(job.id), self._last.get(job.id)
        if task is not None:
            task.cancel()
        if job.state != "cancelled" or not job.is_for(self._me):
            return
        if last is None and self._clock() - job.created > RECENT:
            return  # it may have been done here before a restart, and nobody waits for it
        stage: Stage = "cancelled" if last is None or task is not None else last.stage
        known = last or Standing(job.id, self._me)
        self._say(replace(known, revision=job.revision, stage=stage))

    def _running(self, job: str) -> asyncio.Task[None] | None:
        """The task that works on a job, if one does."""
        task = self._tasks.get(job)
        return None if task is None or task.done() else task

    def _forget(self, now: float) -> None:
        """Let go of jobs that ended long ago."""
        for gone in [each for each in self._jobs.values() if each.until <= now]:
            if gone.id not in self._tasks:
                del self._jobs[gone.id]
                self._last.pop(gone.id, None)
                self._policy.release(gone.id)

    def _settled(self, job: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(job) is task:
            del self._tasks[job]

    async def _work(self, job: Job) -> None:
        """Bring all images of a job; whatever happens is said."""
        progress = _Progress(self._say, lambda: self._jobs.get(job.id, job), self._me)
        try:
            async with self._slots, asyncio.timeout(max(job.until - self._clock(), 0.0)):
                failures = await self._bring(job, progress)
        except TimeoutError:
            progress.say("failed", "its time was over before everything was here")
        except Exception:
            _log.exception("job failed: job=%s", job.id)
            progress.say("failed", "internal error, see the daemon's log")
        else:
            self._ended(job, progress, failures)

    def _ended(self, job: Job, progress: _Progress, failures: list[str]) -> None:
        if not failures:
            progress.say("done")
            _log.info("job done: job=%s bytes=%d", job.id, progress.arrivals.total)
            return
        several = len(job.images) > 1
        few = f"{len(failures)} of {len(job.images)} images: " if several else ""
        progress.say("failed", few + failures[0])
        _log.warning("job failed: job=%s error=%s", job.id, few + failures[0])

    async def _bring(self, job: Job, progress: _Progress) -> list[str]:
        """Bring every image; the lines of those that failed."""
        progress.say("fetching")
        at_once = asyncio.Semaphore(IMAGES_AT_ONCE)
        failures: list[str] = []

        async def bring(image: Image) -> None:
            async with at_once:
                try:
                    await self._one(image, progress)
                except Fault as fault:
                    failures.append(line_of(str(fault)))

        async with asyncio.TaskGroup() as group:
            beat = group.create_task(progress.beat())
            async with asyncio.TaskGroup() as images:
                for image in job.images:
                    images.create_task(bring(image))
            beat.cancel()
        return failures

    async def _one(self, image: Image, progress: _Progress) -> None:
        assert self._pull is not None  # noqa: S101 - run() has set it
        # By its tag, so that it has its name here; where the configuration means something else
        # by that tag, the digest alone is brought.
        named = self._policy.pin(image.reference, self._clock()) == image.digest
        reference = image.reference if named and image.reference.digest is None else image.exact
        await self._pull(
            str(reference),
            platforms=image.platforms,
            all_platforms=image.everything,
            report=progress.take,
        )
        if image.recipe:
            if self._convert is None:
                raise JobInvalid("this node makes no conversions")
            await self._convert(
                str(reference),
                recipe=image.recipe,
                platforms=image.platforms,
                report=progress.take,
            )
        progress.images += 1

    def _say(self, standing: Standing) -> None:
        said = replace(standing, at=round(self._clock(), 3))
        self._last[standing.job] = said
        self._board.tell(said)


class _Progress:
    """What one node says of one revision of a job while it works on it."""

    def __init__(self, say: Callable[[Standing], None], job: Callable[[], Job], node: str) -> None:
        """``job`` gives the revision that counts now."""
        self.arrivals = Arrivals()
        self.images = 0
        self._say = say
        self._job = job
        self._node = node
        self._clock = asyncio.get_running_loop().time
        self._began = self._said_at = self._clock()
        self._stage: Stage = "waiting"

    def take(self, event: Event) -> None:
        """Note an event of a pull; say how far it is, when it is time."""
        self.arrivals.take(event)
        if self._clock() - self._said_at >= EVERY:
            self.say(self._stage)

    async def beat(self) -> None:
        """Say something now and then while nothing moves: that somebody is still at it."""
        while True:
            await asyncio.sleep(AT_LEAST / 2)
            if self._clock() - self._said_at >= AT_LEAST / 2:
                self.say(self._stage)

    def say(self, stage: Stage, error: str = "") -> None:
        """Say how far it is."""
        self._stage, self._said_at = stage, self._clock()
        job, arrivals = self._job(), self.arrivals
        self._say(
            Standing(
                job.id,
                self._node,
                job.revision,
                stage,
                here=arrivals.here,
                total=arrivals.total,
                blobs=arrivals.blobs,
                images=self.images,
                error=line_of(error),
                seconds=self._clock() - self._began,
            )
        )


def _pins(job: Job) -> dict[Reference, Digest]:
    return {image.reference: image.digest for image in job.images if image.reference.tag}
