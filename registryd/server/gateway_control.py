"""/api/v1/gateway: the gateway's verbs for users of this machine.

Invariants:
- who asks is known by the kernel (SO_PEERCRED, SO_PEERGROUPS): on TCP nobody is;
- a file that is imported comes as bytes, read by who asks: no path of theirs is opened here;
- an image is given to who may read it, after a look at its list, each time.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from registryd.gateway.record import Account
from registryd.images.errors import path_faults
from registryd.images.files import in_thread, write_all
from registryd.oci.errors import Denied, UsageError
from registryd.operations import Operations
from registryd.operations.gateway import FORMS
from registryd.server.account import account_of
from registryd.server.challenges import local
from registryd.server.context import caller_of, context_of
from registryd.server.control import (
    Arguments,
    arguments_of,
    check_passing,
    passed,
    streamed,
)

_PEER: Final = struct.Struct("3i")
#: linux/socket.h; Python has no name for it.
_SO_PEERGROUPS: Final = 59
_GROUPS: Final = struct.Struct("I")
#: Groups of one user that are looked at (NGROUPS_MAX).
_MOST_GROUPS: Final = 65536
#: Bytes that a thread hop writes.
_HOP: Final = 1 << 20

Verb = Callable[[Operations, Arguments, Account], Awaitable[dict[str, object]]]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Arguments that may be left out of an import's query.
_IMPORT: Final[Mapping[str, Any]] = {
    "form": None, "users": None, "groups": None, "wait": None, "timeout": None,
}  # fmt: skip


def add_gateway_routes(app: web.Application) -> None:
    """Put the gateway's routes into an application."""
    get, post = app.router.add_get, app.router.add_post
    get(_at("lookup"), _json(lambda o, a, who: o.gateway_lookup(a["image"], account=who), "image"))
    get(_at("show"), _json(lambda o, a, who: o.gateway_show(a["image"], account=who), "image"))
    get(_at("images"), _json(lambda o, a, who: o.gateway_images(account=who)))
    get(_at("queue"), _json(lambda o, a, who: o.gateway_queue(account=who)))
    get(
        _at("metrics"),
        _json(lambda o, a, who: o.gateway_metrics(account=who, limit=a["limit"]), limit=None),
    )
    get(_at("content"), _content)
    post(_at("expire"), _json(lambda o, a, who: o.gateway_expire(a["image"], account=who), "image"))
    post(_at("autoexpire"), _json(lambda o, a, who: o.gateway_autoexpire(account=who)))
    post(_at("open"), _open)
    post(_at("pull"), _pull)
    post(_at("import"), _import)


def _at(verb: str) -> str:
    return f"/api/v1/gateway/{verb}"


def _json(act: Verb, *required: str, **optional: Any) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        arguments = await arguments_of(request, *required, optional=optional)
        operations = context_of(request).operations
        return web.json_response(await act(operations, arguments, account_at(request)))

    return answer


async def _pull(request: web.Request) -> web.StreamResponse:
    optional = {"users": (), "groups": (), "wait": False, "timeout": None, "registry": None}
    given = await arguments_of(request, "image", optional=optional)
    operations, account = context_of(request).operations, account_at(request)
    del given["principal"]
    image = given.pop("image")
    return await streamed(
        request, lambda r: operations.gateway_pull(image, **given, account=account, report=r)
    )


async def _import(request: web.Request) -> web.StreamResponse:
    """The body is the file; all else is in the query."""
    given = await arguments_of(request, "image", optional=_IMPORT, queried=True)
    operations, account = context_of(request).operations, account_at(request)
    form = given["form"] or FORMS[0]
    if form not in FORMS:
        raise UsageError(f"{form[:40]!r} is no form of image (use one of {', '.join(FORMS)})")
    operations.importable(given["image"], account)
    file = operations.gateway.shelf.new_file()
    taken = False

    async def act(report: Callable[[dict[str, object]], None]) -> None:
        nonlocal taken
        taken = True  # from here on it is the gateway's to remove
        await operations.gateway_import(
            given["image"],
            file,
            account=account,
            form=form,
            users=_words(given["users"]),
            groups=_words(given["groups"]),
            wait=given["wait"] == "true",
            timeout=given["timeout"],
            report=report,
        )

    try:
        await _spool(request, file, operations.gateway.shelf.check_room)
        return await streamed(request, act)
    finally:
        if not taken:
            await in_thread(operations.gateway.shelf.clear, file)


def _words(text: str | None) -> list[str]:
    return [word for word in (text or "").split(",") if word]


async def _spool(request: web.Request, file: Path, check: Callable[[int], None]) -> None:
    """Put the body into a new file. Raises DiskFull, PathUnusable."""
    with path_faults(file):
        fd = await in_thread(os.open, file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        pieces = bytearray()
        async for piece in request.content.iter_any():
            pieces += piece
            if len(pieces) >= _HOP:
                await in_thread(_write, fd, bytes(pieces), file, check)
                pieces.clear()
        await in_thread(_write, fd, bytes(pieces), file, check)
        with path_faults(file):
            await in_thread(os.fsync, fd)
    finally:
        await in_thread(os.close, fd)


def _write(fd: int, content: bytes, file: Path, check: Callable[[int], None]) -> None:
    with path_faults(file):
        check(fd)
        write_all(fd, content)


async def _open(request: web.Request) -> web.StreamResponse:
    """The squashfs of an image, as an open file."""
    check_passing(request)
    given = await arguments_of(request, "image", optional={})
    operations = context_of(request).operations
    image, path = await operations.gateway_content(given["image"], account=account_at(request))
    with path_faults(path):
        file = await in_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return await passed(request, file, f"sha256:{image.content}")
    finally:
        os.close(file)


async def _content(request: web.Request) -> web.StreamResponse:
    """The squashfs of an image."""
    given = await arguments_of(request, "image", optional={})
    operations = context_of(request).operations
    image, path = await operations.gateway_content(given["image"], account=account_at(request))
    return web.FileResponse(
        path,
        headers={
            "Content-Type": "application/vnd.squashfs",
            "Docker-Content-Digest": f"sha256:{image.content}",
        },
    )


def account_at(request: web.Request) -> Account:
    """Who asks on the unix socket. Raises Denied on TCP."""
    peer = local(request)
    if peer is None:
        raise Denied(
            "the gateway wants to know who asks: use the daemon's unix socket, or munge"
            " (gateway.listen)"
        )
    caller = caller_of(request)
    _, uid, gid = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    account_of(request).user = f"uid:{uid}"
    gateway = context_of(request).operations.gateway
    return gateway.rights.account(uid, gid, _groups(peer), owner=not caller.principal)


def _groups(peer: socket.socket) -> frozenset[int]:
    """The supplementary groups of the other side, as the kernel has them."""
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GROUPS.size)
    except OSError:  # before Linux 4.13
        return frozenset()
    return frozenset(group for (group,) in _GROUPS.iter_unpack(raw))
