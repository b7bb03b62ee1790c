"""What names and wishes mean now: asked of their registries once, by one node, with its own login.

Invariant: what jobs have pinned does not count here, or a tag could never move on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from registryd.jobs.errors import JobInvalid
from registryd.jobs.record import IMAGES_LIMIT, Image
from registryd.jobs.wishes import Wish
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from registryd.ports import Remotes
from registryd.transfer.groups import task_group
from registryd.transfer.library import LOCALHOST
from registryd.transfer.tags import Meaning, Tags

#: Questions to registries at the same time.
AT_ONCE: Final = 8

#: Told what each name was found to mean.
Told = Callable[[Reference, Meaning], None]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The registries, and the tags of this node."""

    remotes: Remotes
    tags: Tags

    async def images(
        self,
        references: Sequence[Reference],
        platforms: tuple[str, ...] = (),
        *,
        everything: bool = False,
        told: Told = lambda reference, meaning: None,
    ) -> tuple[Image, ...]:
        """The images that these names mean, each once. Raises as Tags.resolve does, UsageError."""
        distinct = list(dict.fromkeys(references))
        for reference in distinct:
            _check(reference)
        if len(distinct) > IMAGES_LIMIT:
            raise JobInvalid(f"{len(distinct)} images are too many ({IMAGES_LIMIT} at most)")
        slots = asyncio.Semaphore(AT_ONCE)

        async def look(reference: Reference) -> Image:
            async with slots:
                remote = self.remotes.remote(reference.registry)
                meaning = await self.tags.upstream(remote, reference)
            told(reference, meaning)
            return Image(reference, meaning.descriptor.digest, platforms, everything)

        return tuple(await _gathered([look(reference) for reference in distinct]))

    async def wished(
        self, wish: Wish, told: Told = lambda reference, meaning: None
    ) -> tuple[Image, ...]:
        """The images that a wish means. Raises as ``images`` does."""
        _check(wish.repository)
        found: list[str] = []
        if len(wish.exact) < len(wish.tags):
            found = await self.remotes.remote(wish.repository.registry).tags(wish.repository)
        names = [wish.repository.with_tag(tag) for tag in wish.chosen(found)]
        return await self.images(names, wish.platforms, everything=wish.everything, told=told)


async def _gathered(looks: list[Awaitable[Image]]) -> list[Image]:
    """All results in their order; the first error ends the others, and is raised."""

    async def one(look: Awaitable[Image]) -> Image:
        return await look

    async with task_group() as group:
        tasks = [group.create_task(one(look)) for look in looks]
    return [task.result() for task in tasks]


def _check(reference: Reference) -> None:
    if reference.registry == LOCALHOST:
        raise UsageError(
            f"{reference} is this node's own, and other nodes have no registry to fetch it from:"
            " push it to one that all nodes reach"
        )


def belongs(image: Image, wish: Wish) -> bool:
    """Whether an image came of a wish."""
    named = image.reference.bare() == wish.repository and image.reference.tag is not None
    scope = (image.platforms, image.everything) == (wish.platforms, wish.everything)
    return named and scope and bool(wish.chosen([image.reference.tag or ""]))
