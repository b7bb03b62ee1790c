"""The gateway as the API has it: images imported for many users.

Invariants:
- who asks is an Account, which the server has from the kernel or from munge, and nothing else;
- a name that a caller may not read is unknown to them, whatever is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from registryd.gateway.accounts import gid_of, name_of, uid_of
from registryd.gateway.asking import Standing
from registryd.gateway.gateway import Gateway
from registryd.gateway.names import ImageName, parse, reference_of
from registryd.gateway.record import LONGEST_LIST, Account, Acl, Image, Request
from registryd.gateway.rights import check_admin
from registryd.gateway.states import UNDER_WAY
from registryd.images.files import in_thread
from registryd.oci.errors import UsageError
from registryd.operations.holdings import moment
from registryd.operations.node import Node, Result
from registryd.secrets import Login
from registryd.transfer.report import Report
from registryd.units import parse_duration

#: What a file that is handed in may be.
FORMS: Final = ("squashfs", "oci-archive", "docker-archive")
#: The exit code of a wait that was too short.
TIMED_OUT: Final = 6
#: Lookups in the metrics, unless more or fewer are asked for.
LOOKUPS: Final = 10


class Gatewayed:
    """The gateway's verbs. Every method raises Faults only."""

    _node: Node

    @property
    def gateway(self) -> Gateway:
        """The gateway of this node. Raises UsageError where there is none."""
        if self._node.gateway is None:
            raise UsageError("the gateway is the work of a daemon, and this is none")
        return self._node.gateway

    async def gateway_pull(
        self,
        image: str,
        *,
        account: Account,
        users: Sequence[str] = (),
        groups: Sequence[str] = (),
        login: Login | None = None,
        registry: str | None = None,
        wait: bool = False,
        timeout: str | None = None,
        report: Report,
    ) -> None:
        """Have an image pulled, and with ``wait`` follow it; the last event is ``done``.

        ``registry`` is whose the login is: it is shown to no other. Raises UsageError, QueueFull.
        """
        limit = None if timeout is None else parse_duration(timeout)
        name = self._named(image)
        if name.itype != "docker":
            raise UsageError(f"{name}: only docker: images are pulled (import brings a file)")
        meant = reference_of(name.tag, self.gateway.config.default_registry).registry
        if registry and registry != meant:
            raise UsageError(f"{image} is of {meant} here, and the login for {registry}: say which")
        lists = await in_thread(list_of, users, groups)
        standing = await self.gateway.pull(account, name, lists=lists, login=login, again=True)
        await self._follow(account, standing, report, wait, limit)

    async def gateway_import(
        self,
        image: str,
        file: Path,
        *,
        account: Account,
        form: str,
        users: Sequence[str] = (),
        groups: Sequence[str] = (),
        wait: bool = False,
        timeout: str | None = None,
        report: Report,
    ) -> None:
        """Import a file that lies in the gateway's work; as ``gateway_pull`` otherwise."""
        try:
            limit = None if timeout is None else parse_duration(timeout)
            name = self.importable(image, account)
            lists = await in_thread(list_of, users, groups)
            standing = await self.gateway.import_file(account, name, file, form, lists)
        except BaseException:
            await in_thread(self.gateway.shelf.clear, file)
            raise
        await self._follow(account, standing, report, wait, limit)

    def importable(self, image: str, account: Account) -> ImageName:
        """The name under which a caller may import. Raises Denied, UsageError."""
        self.gateway.rights.check_import(account)
        name = self._named(image if ":" in image else f"custom:{image}")
        if name.itype != "custom":
            name = self._named(f"custom:{image}")
        return name

    async def gateway_lookup(self, image: str, *, account: Account) -> Result:
        """The image that a name means, for this caller; its expiry is put off."""
        name = self._named(image)
        user = await in_thread(name_of, account.uid)
        return self._shown(await self.gateway.lookup(account, name, user=user))

    async def gateway_show(self, image: str, *, account: Account) -> Result:
        """All that a caller has under a name: the image, and an import that goes on."""
        name = self._named(image)
        standing = await self.gateway.standing(account, name)
        found = standing.image
        if found is None and standing.request is None:
            await self.gateway.found(account, name)  # says that there is nothing
        return {
            "name": str(name),
            "state": standing.state,
            "image": None if found is None else self._shown(found),
            "import": None if standing.request is None else _asked(standing.request),
        }

    async def gateway_images(self, *, account: Account) -> Result:
        """The images that a caller may read."""
        return {"images": [self._shown(each) for each in await self.gateway.images(account)]}

    async def gateway_queue(self, *, account: Account) -> Result:
        """A caller's own imports that are not READY, or have failed lately; an admin's sees all."""
        return {"imports": [_asked(each) for each in await self.gateway.queue(account)]}

    async def gateway_expire(self, image: str, *, account: Account) -> Result:
        """Take an image away. Raises Denied, ImageUnknown."""
        name = self._named(image)
        gone = await self.gateway.expire(account, name)
        if not gone:
            await self.gateway.found(account, name)
        return {"expired": gone}

    async def gateway_autoexpire(self, *, account: Account) -> Result:
        """Take away what nobody has looked up for long. Raises Denied."""
        return {"expired": await self.gateway.autoexpire(account)}

    async def gateway_metrics(self, *, account: Account, limit: str | None = None) -> Result:
        """The last lookups. Raises Denied, UsageError."""
        check_admin(account)
        if limit is not None and not (limit.isascii() and limit.isdecimal() and len(limit) < 7):
            raise UsageError(f"limit={limit[:20]!r} is not a number")
        found = await self.gateway.lookups(account, LOOKUPS if limit is None else int(limit))
        return {
            "lookups": [
                {
                    "time": moment(each.time),
                    "user": each.user,
                    "uid": each.uid,
                    "name": str(each.name),
                    "id": each.id,
                }
                for each in found
            ]
        }

    async def gateway_content(self, image: str, *, account: Account) -> tuple[Image, Path]:
        """An image and the file it lies in, for a caller who may read it."""
        found = await self.gateway.found(account, self._named(image))
        return found, self.gateway.shelf.path(found.id)

    def _named(self, image: str) -> ImageName:
        return parse(image, self.gateway.config.default_registry)

    async def _follow(
        self,
        account: Account,
        standing: Standing,
        report: Report,
        wait: bool,
        limit: float | None,
    ) -> None:
        """Tell each step until an import has ended, or only that it was taken."""
        name, told = standing.name, ("", "")
        try:
            async with asyncio.timeout(limit if wait else None):
                while True:
                    request = standing.request
                    if request is not None and (request.state, request.message) != told:
                        told = request.state, request.message
                        report({"event": "import", **_asked(request)})
                    if request is None or request.state not in UNDER_WAY or not wait:
                        break
                    moved = self.gateway.moved()
                    standing = await self.gateway.standing(account, name)
                    if standing.request == request:
                        await moved.wait()
        except TimeoutError:
            words = (
                f"{name} is {told[0]} after {limit:.0f} s and goes on (registryctl gateway queue)"
            )
            report(_failed(words, TIMED_OUT))
            return
        self._end(standing, report)

    def _end(self, standing: Standing, report: Report) -> None:
        request = standing.request
        if request is not None and request.state == "FAILURE":
            report(_failed(f"{standing.name}: {request.message}", request.exit_code))
            return
        shown = self._shown(standing.image) if standing.image is not None else {}
        state = standing.state
        report({**shown, "event": "done", "name": str(standing.name), "state": state})

    def _shown(self, image: Image) -> Result:
        """An image as the API has it."""
        setup, acl = image.setup, image.acl
        return {
            "id": image.id,
            "names": [str(name) for name in image.names],
            "state": image.state,
            "private": image.private,
            "users": sorted(acl.uids) if image.private else [],
            "groups": sorted(acl.gids) if image.private else [],
            "form": image.form,
            "content": f"sha256:{image.content}",
            "size": image.size,
            "last_pull": moment(image.last_pull),
            "last_lookup": moment(image.last_lookup),
            "expires": moment(image.last_lookup + self.gateway.config.expiration),
            **setup.as_json(),
        }


def list_of(users: Sequence[str], groups: Sequence[str]) -> Acl:
    """The numbers of users and groups. Blocks. Raises UsageError."""
    if len(users) + len(groups) > LONGEST_LIST:
        raise UsageError(f"a list has at most {LONGEST_LIST} users and groups")
    return Acl(frozenset(map(uid_of, users)), frozenset(map(gid_of, groups)))


def _asked(request: Request) -> Result:
    """An import as the API has it."""
    return {
        "name": str(request.name),
        "uid": request.account.uid,
        "state": request.state,
        "message": request.message,
        "since": moment(request.changed),
    }


def _failed(words: str, exit_code: int) -> Result:
    return {"event": "failed", "message": words, "code": "UNKNOWN", "exit_code": exit_code}
