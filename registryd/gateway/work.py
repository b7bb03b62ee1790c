"""One import, from PENDING to an image that is published.

Invariants:
- every step is written down before it is taken; READY comes last, when everything is on disk;
- an image that was here already is examined and converted no more: only who may read it is new,
  and they have shown that they have all of it;
- nothing has the image's name before it is whole, proven and examined;
- one image is worked on, published or dropped by one at a time.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

from cache.errors import Fault
from registryd.gateway.errors import Refused
from registryd.gateway.examine import examine
from registryd.gateway.handing import copy_as
from registryd.gateway.making import Found, Maker, Told
from registryd.gateway.names import reference_of
from registryd.gateway.record import Image, Request, Setup
from registryd.gateway.shelf import Shelf, check_squashfs, hash_file
from registryd.gateway.states import State
from registryd.gateway_config import GatewayConfig
from registryd.images.errors import NotMade, path_faults
from registryd.images.files import in_thread
from registryd.secrets import Login

SQUASHFS: Final = "squashfs"


class Step(Protocol):
    """Writes down that an import is in another state."""

    async def __call__(self, following: State, message: str = "") -> None:
        """From now on it is."""


class Published(Protocol):
    """Where images are written down."""

    async def known(self, id: str) -> Image | None:
        """The image with an id, with all its names."""

    async def asked(self, request: Request) -> Request:
        """An import with the list that its puller wants by now."""

    async def publish(self, request: Request, image: Image) -> bool:
        """The import is done, and the image READY; not if its puller wants another list by now."""


class Locks:
    """A lock for each image that somebody has in hand."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, id: str) -> asyncio.Lock:
        """The lock of an image."""
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        return lock


class Work:
    """How imports are carried out on one node."""

    def __init__(
        self,
        config: GatewayConfig,
        shelf: Shelf,
        published: Published,
        locks: Locks,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._shelf = shelf
        self._published = published
        self._locks = locks
        self._clock = clock

    async def carry_out(
        self, request: Request, login: Login | None, maker: Maker, step: Step, told: Told
    ) -> None:
        """Do an import, and publish its image. Raises Faults."""
        if request.kind == "pull":
            await step("PULLING", "Getting manifest")
            reference = reference_of(request.name.tag, self._config.default_registry)
            found = await maker.pull(reference, request.account, login, told)
            await self._take_in(request, found, step)
            return
        await step("HASHING")
        if not request.path:
            await self._import(request, self._shelf.file(request.file), maker, step)
            return
        copied = self._shelf.new_file()
        try:
            check = self._shelf.check_room
            await in_thread(copy_as, request.account, request.path, copied, check)
            await self._import(request, copied, maker, step)
        finally:
            await in_thread(self._shelf.clear, copied)

    async def _import(self, request: Request, file: Path, maker: Maker, step: Step) -> None:
        if request.form == SQUASHFS:
            await self._take_in(request, await in_thread(_Handed, file, self._shelf), step)
            return
        async with maker.opened(file, request.form) as found:
            await self._take_in(request, found, step)

    async def _take_in(self, request: Request, found: Found, step: Step) -> None:
        async with self._locks.of(found.id):
            before = await self._published.known(found.id)
            if before is None or before.state != "READY" or not self._shelf.has(found.id):
                before = None
                if self._config.examiner is not None:
                    await step("EXAMINATION")
                    await self._examine(self._config.examiner, found)
                await step("CONVERSION")
                content, size = await self._converted(found)
            else:
                content, size = before.content, before.size
                if not found.proven and not before.readable(request.account):
                    await step("CONVERSION")
                    await self._prove(found)
            try:
                await step("TRANSFER")
                done = False
                while not done:
                    request = await self._published.asked(request)
                    image = self._image(request, found, content, size, before)
                    await in_thread(self._shelf.transfer, image)
                    done = await self._published.publish(request, image)
            except Fault:
                if before is None:  # nobody would ever find it, and its room were lost
                    await in_thread(self._shelf.drop, found.id)
                raise

    def _image(
        self, request: Request, found: Found, content: str, size: int, before: Image | None
    ) -> Image:
        now = self._clock()
        return Image(
            id=found.id,
            itype=request.name.itype,
            private=_is_private(request, found, before),
            content=content,
            size=size,
            form=SQUASHFS,
            setup=before.setup if before else found.setup,
            last_pull=now,
            last_lookup=now,
            lists={**(before.lists if before else {}), request.account.uid: request.acl},
            names=(request.name,),
        )

    async def _examine(self, program: Path, found: Found) -> None:
        folder = await in_thread(self._shelf.new_folder)
        try:
            root = folder / "rootfs"
            await found.unpack(root)
            await examine(program, root, found.id, limit=self._config.examiner_timeout)
        finally:
            await in_thread(self._shelf.clear, folder)

    async def _prove(self, found: Found) -> None:
        """Have all of an image read that is here already, for somebody who may not read that one.

        Else a manifest that somebody knows, in a file without its layers, would open it to them.
        """
        made = self._shelf.new_file()
        try:
            await found.convert(made)
        finally:
            await in_thread(self._shelf.clear, made)

    async def _converted(self, found: Found) -> tuple[str, int]:
        made = self._shelf.new_file()
        try:
            proven = await found.convert(made)
            return await in_thread(self._shelf.take, made, found.id, proven)
        finally:
            await in_thread(self._shelf.clear, made)


def _is_private(request: Request, found: Found, before: Image | None) -> bool:
    """Whether an image is for its pullers and those they named alone.

    What was public stays so, unless it is its own name that has become private: the same bytes may
    lie in a private repository too.
    """
    if found.public:
        return False
    if before is None or before.private:
        return True
    return request.kind == "pull" and request.name in before.names


class _Handed:
    """A squashfs that was handed in: its id is the digest of all of it."""

    public = False
    proven = True
    setup = Setup()

    def __init__(self, file: Path, shelf: Shelf) -> None:
        """Blocks. Raises NotAnImage, PathUnusable."""
        self._file = file
        self._shelf = shelf
        with path_faults(file), file.open("rb") as opened:
            check_squashfs(opened.fileno(), "the file")
            self.id = hash_file(opened)

    async def unpack(self, folder: Path) -> None:
        """Unpack it. Raises NotMade, Refused."""
        words = ("-quiet", "-no-progress", "-no-xattrs", "-dest", str(folder), str(self._file))
        try:
            process = await asyncio.create_subprocess_exec(
                "unsquashfs", *words, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
            )
        except OSError as error:
            raise NotMade("unsquashfs is not on the PATH (Debian: squashfs-tools)") from error
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise Refused(f"unsquashfs cannot unpack it for the examiner: {lines[-1][:300]}")

    async def convert(self, target: Path) -> str:
        """It is one already."""
        await in_thread(self._shelf.link, self._file, target)
        return self.id
