"""The gateway of one node: imports asked for, carried out and followed; images looked up.

Invariants:
- what a caller is told was written down before; what was under way when the daemon ended is begun
  anew, and never lost;
- a login is in memory only, from the asking until the import has ended; it is in no file or line;
- what somebody may not read is for them as if it were not here;
- decisions are made in the database's own thread, in one transaction each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from cache.errors import Fault
from cache.hops import P, T, hop
from registryd.gateway.asking import Standing, lists_differ, newest, relisted, with_list_of
from registryd.gateway.book import FILE, Book
from registryd.gateway.errors import ImageUnknown, LoginLost
from registryd.gateway.logins import Key, Logins
from registryd.gateway.making import Maker
from registryd.gateway.names import ImageName
from registryd.gateway.notes import Notes
from registryd.gateway.record import NO_LIST, Account, Acl, Image, Kind, Lookup, Request, own_list
from registryd.gateway.rights import Rights, check_admin
from registryd.gateway.shelf import Shelf
from registryd.gateway.states import UNDER_WAY, State, pull_verdict
from registryd.gateway.work import Locks, Work
from registryd.gateway_config import GatewayConfig
from registryd.images.files import in_thread
from registryd.secrets import Login

#: Seconds after which a worker tries again what the database did not let it write down.
REST: Final = 5.0
#: Of a failure's line as much is kept, as text: what an archive says may be none.
LINE: Final = 500
#: How it ends where a registry does not let somebody in: some say that there is no such image.
NO_ACCESS: Final = frozenset({2, 3})

_log = logging.getLogger(__name__)


class Gateway:
    """See the module. Every method raises Faults only; made by ``open``."""

    def __init__(
        self, book: Book, shelf: Shelf, config: GatewayConfig, clock: Callable[[], float]
    ) -> None:
        self.config = config
        self.rest = REST
        self.clock = clock
        self.rights = Rights(config)
        self.shelf = shelf
        self._book = book
        self._thread = ThreadPoolExecutor(1, "gateway")
        self._locks = Locks()
        self._work = Work(config, shelf, self, self._locks, clock)
        self._logins = Logins()
        self._said: dict[Key, str] = {}
        self._busy: set[Key] = set()
        self._notes = Notes(lambda noted: self._hop(book.looked_up, noted))
        self._choosing = asyncio.Lock()
        self._asked = asyncio.Event()
        self._moved = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, root: Path, config: GatewayConfig, clock: Callable[[], float]
    ) -> AsyncIterator[Gateway]:
        """The gateway that keeps its things in a cache's root. Raises StoreUnusable, DiskFull."""
        book = await in_thread(Book, root / FILE)
        try:
            shelf = Shelf(root, config.image_dir)
            gateway = await in_thread(cls, book, shelf, config, clock)
        except BaseException:
            await in_thread(book.close)
            raise
        try:
            await gateway._recall()
            yield gateway
        finally:
            with suppress(Fault):
                await asyncio.shield(gateway._notes.flush())
            await in_thread(gateway._thread.shutdown)
            await in_thread(book.close)

    async def _recall(self) -> None:
        await self._hop(self._book.recall, self.clock())
        files = await self._hop(self._book.files)
        images = await self._hop(self._book.ids, "READY", "EXPIRING")
        await in_thread(self.shelf.prepare, files, images)
        await self._drop(await self._hop(self._book.ids, "EXPIRING"))

    # asking

    async def pull(
        self,
        account: Account,
        name: ImageName,
        *,
        lists: Acl = NO_LIST,
        login: Login | None = None,
        again: bool = False,
    ) -> Standing:
        """Have an image pulled, unless that is under way or was done a moment ago.

        ``lists`` are others who may read it, should it be private. Raises QueueFull.
        """
        request = self._request(account, name, lists, "pull", login=login)
        wanted = lists if lists != NO_LIST else None

        def decide(image: Image | None, before: Request | None) -> Request | None:
            now = self.clock()
            new_login = self._logins.is_new(request.key, login)
            state, since = newest(image, before)
            verdict = pull_verdict(
                state,
                now - since,
                update_timeout=self.config.update_timeout,
                again=again,
                new_login=new_login,
            )
            if verdict == "tell" and not (
                state == "READY" and lists_differ(image, request, wanted)
            ):
                return relisted(before, request, wanted)
            return with_list_of(image, request, wanted)

        image, stands = await self._hop(self._book.settle, name, account, decide)
        if stands is not None and stands.state in UNDER_WAY:
            # Also of one that was recalled after a restart, and whose login was lost with it.
            self._logins.keep(request.key, login)
        self._tell()
        return self._standing(name, image, stands)

    async def import_file(
        self,
        account: Account,
        name: ImageName,
        file: Path | None,
        form: str,
        lists: Acl = NO_LIST,
        *,
        path: str = "",
    ) -> Standing:
        """Have a file of the work imported, which goes when that has ended; or one at a path.

        One at a path is left alone where that was done a moment ago. Raises QueueFull.
        """
        named = "" if file is None else file.name
        request = self._request(account, name, lists, "import", file=named, form=form, path=path)

        def decide(image: Image | None, before: Request | None) -> Request | None:
            state, since = newest(image, before)
            verdict = pull_verdict(
                state if file is None or state in UNDER_WAY else None,
                self.clock() - since,
                update_timeout=self.config.update_timeout,
            )
            wanted = lists if lists != NO_LIST else None
            anew = with_list_of(image, request, wanted)
            return relisted(before, request, wanted) if verdict == "tell" else anew

        image, stands = await self._hop(self._book.settle, name, account, decide)
        if file is not None and (stands is None or stands.file != named):
            await in_thread(self.shelf.clear, file)
        self._tell()
        return self._standing(name, image, stands)

    async def standing(self, account: Account, name: ImageName) -> Standing:
        """What a caller has under a name."""
        key = (name.itype, name.tag, account.uid)
        request = await self._hop(self._book.request, key)
        image = await self._hop(self._book.newest, name, account)
        return self._standing(name, image, request)

    def moved(self) -> asyncio.Event:
        """What is set when some import moves next."""
        return self._moved

    # looking

    async def lookup(self, account: Account | None, name: ImageName, *, user: str = "") -> Image:
        """The image that a caller means; its expiry is put off. Raises ImageUnknown."""
        image = await self.found(account, name)
        uid = -1 if account is None else account.uid
        self._notes.add(Lookup(self.clock(), user, uid, name, image.id))
        return image

    async def found(self, account: Account | None, name: ImageName) -> Image:
        """The image that a caller means. Raises ImageUnknown."""
        image = await self._hop(self._book.newest, name, account)
        if image is None:
            raise ImageUnknown(f"{name} is not here (registryctl gateway pull {name} brings it)")
        return image

    async def images(self, account: Account | None) -> list[Image]:
        """The images that a caller may read."""
        return await self._hop(self._book.images, account)

    async def queue(self, account: Account) -> list[Request]:
        """A caller's own imports that are not READY; an admin sees all."""
        requests = await self._hop(self._book.requests, account)
        return [self._current(each) for each in requests]

    async def lookups(self, account: Account, limit: int) -> list[Lookup]:
        """The last lookups, for admins."""
        if not account.admin:
            return []
        await self._notes.flush()
        return await self._hop(self._book.lookups, limit)

    # ending

    async def expire(self, account: Account, name: ImageName) -> list[str]:
        """Take an image away, whoever uses it; the ids that are gone. Raises Denied."""
        check_admin(account)
        image = await self._hop(self._book.newest, name, account)
        return await self._expire([] if image is None else [image.id])

    async def autoexpire(self, account: Account) -> list[str]:
        """Take away what nobody has looked up for long. Raises Denied."""
        check_admin(account)
        await self._notes.flush()
        unused = self.clock() - self.config.expiration
        return await self._expire(await self._hop(self._old, unused))

    def _old(self, unused_since: float) -> list[str]:
        return self._book.ids("READY", unused_since=unused_since)

    async def _expire(self, ids: list[str]) -> list[str]:
        await self._hop(self._book.expiring, ids)
        await self._drop(ids)
        return ids

    async def _drop(self, ids: list[str]) -> None:
        for id in ids:
            async with self._locks.of(id):
                image = await self.known(id)
                if image is not None and image.state == "EXPIRING":  # else it was pulled anew
                    await in_thread(self.shelf.drop, id)
                    await self._hop(self._book.expired, id)
                    _log.info("image expired: id=%s", id)

    # working

    async def run(self, maker: Maker) -> None:
        """Carry imports out until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notes.run())
            for _ in range(self.config.workers):
                group.create_task(self._worker(maker))

    async def _worker(self, maker: Maker) -> None:
        while True:
            try:
                request = await self._next()
                if request is None:
                    await self._asked.wait()
                    continue
                try:
                    await self._carry_out(request, maker)
                finally:
                    self._busy.discard(request.key)
            except Exception as error:  # the database: what it does not take now is begun anew
                _log.error("gateway: %s", error, exc_info=not isinstance(error, Fault))
                await asyncio.sleep(self.rest)

    async def _next(self) -> Request | None:
        async with self._choosing:
            self._asked.clear()
            request = await self._hop(self._book.next, frozenset(self._busy))
            if request is not None:
                self._busy.add(request.key)
            return request

    async def _carry_out(self, request: Request, maker: Maker) -> None:
        key, login = request.key, self._logins.of(request.key)
        stands = request

        async def step(following: State, message: str = "") -> None:
            nonlocal stands
            if stands.state != following:
                stands = stands.moved(following, self.clock(), message)
                self._said.pop(key, None)
                await self._hop(self._book.put, stands)
                self._tell()

        def told(words: str) -> None:
            self._said[key] = words
            self._wake()

        try:
            await self._work.carry_out(request, login, maker, step, told)
            _log.info("import done: image=%s uid=%d", request.name, request.account.uid)
        except Fault as fault:
            lost = fault.exit_code in NO_ACCESS
            if lost and self._logins.of(key) is not login:  # they have come with another one since
                await step("PENDING")
                return
            lost = lost and request.with_login and login is None
            await self._fail(stands, LoginLost.of(fault) if lost else fault)
        except Exception:
            _log.exception("import failed: image=%s", request.name)
            await self._fail(stands, Fault("internal error, see the daemon's log"))
        await self._let_go(key)
        if request.file:
            with suppress(Fault):  # the next start sweeps it
                await in_thread(self.shelf.clear, self.shelf.file(request.file))
        self._tell()

    async def _let_go(self, key: Key) -> None:
        self._said.pop(key, None)
        request = await self._hop(self._book.request, key)
        if request is None or request.state not in UNDER_WAY:  # else it was asked for anew
            self._logins.let_go(key)

    async def _fail(self, request: Request, fault: Fault) -> None:
        line = " ".join(str(fault).split())[:LINE].encode(errors="replace").decode()
        _log.warning(
            "import failed: image=%s uid=%d error=%s", request.name, request.account.uid, line
        )
        failed = request.moved("FAILURE", self.clock(), line, fault.exit_code or 1)
        await self._hop(self._book.put, replace(failed, file=""))

    # what the work asks (``work.Published``)

    async def known(self, id: str) -> Image | None:
        """The image with an id, with all its names."""
        return await self._hop(self._book.image, id)

    async def asked(self, request: Request) -> Request:
        """An import with the list that its puller wants by now."""
        return await self._hop(self._book.request, request.key) or request

    async def publish(self, request: Request, image: Image) -> bool:
        """The import is done, and the image READY; not if its puller wants another list by now."""
        done = await self._hop(self._book.publish, request, image)
        self._tell()
        return done

    # inside

    def _request(
        self,
        account: Account,
        name: ImageName,
        lists: Acl,
        kind: Kind,
        *,
        login: Login | None = None,
        file: str = "",
        form: str = "",
        path: str = "",
    ) -> Request:
        now = self.clock()
        return Request(
            name=name,
            account=account,
            acl=own_list(account, lists.uids, lists.gids),
            created=now,
            changed=now,
            with_login=login is not None,
            kind=kind,
            file=file,
            form=form,
            path=path,
        ).moved("PENDING", now)

    def _standing(self, name: ImageName, image: Image | None, request: Request | None) -> Standing:
        if request is not None:
            request = self._current(request)
        return Standing(name, image, request)

    def _current(self, request: Request) -> Request:
        said = self._said.get(request.key)
        return replace(request, message=said) if said else request

    def _tell(self) -> None:
        self._asked.set()
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _hop(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return hop(self._thread, act, *args, **kwargs)
