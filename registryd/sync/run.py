"""A plan carried out: tags are listed, images compared and brought over, several at a time.

Invariants:
- each image has one outcome, in the order of the plan; what has failed says why;
- without ``keep_going`` the first failure ends the run: what was not begun by then is skipped;
- to one repository each blob goes once, however many images have it;
- two steps that mean the same image at the same place are done once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from cache.errors import Fault
from registryd.images.transports import ImageLocation
from registryd.oci.errors import ManifestUnknown
from registryd.ports import Named, Surveyed
from registryd.sync.plan import ImageStep, Plan, RegistryStep, RepositoryStep, Step
from registryd.sync.tag_choice import choose
from registryd.sync.whole import Extras, Mover, Places, Whole
from registryd.transfer.groups import task_group
from registryd.transfer.report import Report, silent
from registryd.transfer.standing import WouldOverwrite
from registryd.transfer.turns import SharedTurns

State = Literal["copied", "unchanged", "skipped", "failed", "differs"]
#: Images at once, where neither file nor flags say.
USUAL_JOBS: Final = 4
#: Images of one run.
IMAGES_LIMIT: Final = 200_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with one image: ``reason`` says why it was skipped, ``fault`` why it failed."""

    source: str
    target: str
    state: State
    whole: Whole | None = None
    reason: str = ""
    fault: Fault | None = None

    def as_json(self) -> dict[str, Any]:
        """The image in a result."""
        entry: dict[str, Any] = {"source": self.source, "target": self.target, "state": self.state}
        whole = self.whole
        if whole is not None:
            entry |= {
                "digest": str(whole.image.descriptor.digest),
                "index": whole.image.index,
                "sent": whole.sent,
                "sent_blobs": whole.sent_blobs,
                "held": whole.held,
                "held_blobs": whole.held_blobs,
                "attached": whole.attached,
            }
        if self.reason:
            entry["reason"] = self.reason
        if self.fault is not None:
            entry |= {"error": " ".join(str(self.fault).split()), "code": self.fault.code}
        return entry


Told = Callable[[Outcome], None]


def _nobody(outcome: Outcome) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class How:
    """How a plan is carried out: ``jobs`` images at a time, ``blob_jobs`` blobs of each.

    ``look``: compare only. ``rehearse``: write nothing. Without ``clobber`` what is at a target
    stays, and its image is skipped. ``told`` hears of each image when it is done.
    """

    jobs: int = USUAL_JOBS
    blob_jobs: int = 4
    keep_going: bool = False
    look: bool = False
    rehearse: bool = False
    clobber: bool = True
    report: Report = silent
    told: Told = _nobody


async def carry_out(plan: Plan, places: Places, how: How) -> list[Outcome]:
    """The outcome of every image of a plan. Raises nothing that is an image's own fault."""
    return await _Run(places, how).all(plan.steps)


@dataclass(slots=True)
class _Run:
    places: Places
    how: How
    over: bool = False
    turns: dict[str, SharedTurns] = field(default_factory=dict)

    async def all(self, steps: Sequence[Step]) -> list[Outcome]:
        """Each step's images first, then the images."""
        limit = asyncio.Semaphore(self.how.jobs)
        found = await self._each(limit, [self._expanded(step) for step in steps])
        images = _once(found)
        return await self._each(
            limit,
            [self._one(each) if isinstance(each, ImageStep) else _done(each) for each in images],
        )

    async def _each(self, limit: asyncio.Semaphore, acts: Iterable[Any]) -> list[Any]:
        async def one(act: Any) -> Any:
            async with limit:
                return await act

        async with task_group() as group:
            tasks = [group.create_task(one(act)) for act in acts]
        return [task.result() for task in tasks]

    async def _expanded(self, step: Step) -> list[ImageStep | Outcome]:
        """The images of a step, or the outcome of not finding them."""
        if isinstance(step, ImageStep):
            return [step]
        if self.over:
            return [Outcome(*_names(step), "skipped", reason="not begun")]
        try:
            if isinstance(step, RepositoryStep):
                return list(await self._tags(step))
            return await self._repositories(step)
        except Fault as fault:
            return [self._failed(step, fault)]

    async def _tags(self, step: RepositoryStep) -> list[ImageStep | Outcome]:
        chosen = choose(step.rules, await self.places.tags(step.source))
        if not chosen:
            return [self._told(Outcome(*_names(step), "skipped", reason="no tag is chosen"))]
        return [step.image(tag) for tag in chosen]

    async def _repositories(self, step: RegistryStep) -> list[ImageStep | Outcome]:
        names = [
            name
            for name in await self.places.repositories(step.source)
            if step.repositories.chooses(name)
        ]
        if not names:
            reason = "no repository is chosen"
            return [self._told(Outcome(*_names(step), "skipped", reason=reason))]
        found: list[ImageStep | Outcome] = []
        for name in names:
            found += await self._expanded(step.repository(name))
        return found

    async def _one(self, step: ImageStep) -> Outcome:
        """One image."""
        source, target = _names(step)
        if self.over:
            return Outcome(source, target, "skipped", reason="not begun")
        try:
            if self.how.look:
                return self._told(await self._looked_at(step))
            whole = await self._moved(step)
        except WouldOverwrite as kept:
            return self._told(Outcome(source, target, "skipped", reason=str(kept)))
        except Fault as fault:
            return self._failed(step, fault)
        if whole.skipped:
            return self._told(Outcome(source, target, "skipped", whole, whole.skipped))
        state: State = "unchanged" if whole.unchanged else "copied"
        return self._told(Outcome(source, target, state, whole))

    async def _moved(self, step: ImageStep) -> Whole:
        terms = replace(step.extras.terms, rehearse=self.how.rehearse, clobber=self.how.clobber)
        extras = replace(step.extras, terms=terms)
        turns = self.turns.setdefault(_repository(step.target), SharedTurns())
        mover = Mover(self.places, self.how.blob_jobs, self.how.report, turns)
        return await mover.move(step.source, step.target, extras)

    async def _looked_at(self, step: ImageStep) -> Outcome:
        """Whether both ends mean the same; nothing is read where a HEAD tells."""
        extras = Extras(step.extras.platforms, replace(step.extras.terms, rehearse=True))
        names = _names(step)
        origin = await self.places.source(step.source)
        goal = await self.places.sink(step.target, step.source)
        found = await goal.standing() if isinstance(goal, Surveyed) else None
        if found is None:
            if isinstance(origin, Named):
                await origin.resolve()
            return Outcome(*names, "differs", reason="is not there")
        mover = Mover(self.places, self.how.blob_jobs)
        whole = await mover.move(step.source, step.target, extras)
        if whole.image.unchanged:
            return Outcome(*names, "unchanged", whole)
        return Outcome(*names, "differs", whole, f"is {found.digest}")

    def _failed(self, step: Step, fault: Fault) -> Outcome:
        if not self.how.keep_going:
            self.over = True
        return self._told(Outcome(*_names(step), "failed", fault=fault))

    def _told(self, outcome: Outcome) -> Outcome:
        self.how.told(outcome)
        return outcome


async def _done(outcome: Outcome) -> Outcome:
    return outcome


def _once(found: Iterable[Sequence[ImageStep | Outcome]]) -> list[ImageStep | Outcome]:
    """Every image once. Raises ManifestUnknown when there are too many."""
    seen: dict[object, ImageStep | Outcome] = {}
    for each in (each for several in found for each in several):
        key = (each.source, each.target) if isinstance(each, ImageStep) else id(each)
        seen.setdefault(key, each)
        if len(seen) > IMAGES_LIMIT:
            raise ManifestUnknown(f"more than {IMAGES_LIMIT} images are chosen: choose fewer")
    return list(seen.values())


def _names(step: Step) -> tuple[str, str]:
    if isinstance(step, RegistryStep):
        return step.source, step.target
    if isinstance(step, RepositoryStep):
        return _repository(step.source), _repository(step.target)
    return str(step.source), str(step.target)


def _repository(place: ImageLocation) -> str:
    """A place without its tag."""
    if place.reference is not None:
        prefix = "cache:" if place.transport == "cache" else ""
        return prefix + place.reference.name
    return f"{place.transport}:{place.path}"
