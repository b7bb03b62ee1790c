"""Shifter's image gateway, as ``shifterimg`` speaks to it: a listener of its own.

Invariants:
- who asks is known by the munge credential in ``authentication``, one for each request; without
  one there is nothing, but public images where the configuration says so;
- every error is 404 in the same words: they do not say whether there is something to be found;
- what is sealed in a credential may hold passwords: it is in no line of a log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from cache.errors import Fault
from registryd.gateway.accounts import groups_of, name_of
from registryd.gateway.gateway import Gateway
from registryd.gateway.handing import check_path
from registryd.gateway.munge import Munge
from registryd.gateway.names import ImageName, read, reference_of
from registryd.gateway.record import Account
from registryd.gateway.shifter import lists_in, logins_in, record_of, records_of
from registryd.images.files import in_thread
from registryd.oci.errors import ReferenceInvalid, Unauthorized, UsageError
from registryd.operations.gateway import FORMS, LOOKUPS
from registryd.secrets import Login
from registryd.server.account import account_of
from registryd.server.app import observe
from registryd.server.context import CAUSE, CONTEXT, Context, context_of

HEADER: Final = "authentication"
#: A body is two lists of numbers and a path.
BODY_LIMIT: Final = 64 << 10
#: Lookups that one answer tells of.
MOST_LOOKUPS: Final = 10_000

Logins = dict[str, Login]
Verb = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MUNGE: Final = web.AppKey("munge", Munge)
_log = logging.getLogger(__name__)


def make_shifter_app(context: Context, munge: Munge) -> web.Application:
    """The application of the listener for Shifter's clients."""
    app = web.Application(middlewares=[observe, _as_shifter_says])
    app[CONTEXT] = context
    app[_MUNGE] = munge
    get, post = app.router.add_get, app.router.add_post
    get("/", _root)
    get("/api/list/{system}{slash:/?}", _list)
    get("/api/queue/{system}{slash:/?}", _queue)
    get("/api/autoexpire/{system}{slash:/?}", _autoexpire)
    get("/api/metrics/{system}{slash:/?}", _metrics)
    get("/api/lookup/{system}/{type}/{tag:.+}", _lookup)
    get("/api/expire/{system}/{type}/{tag:.+}", _expire)
    post("/api/pull/{system}/{type}/{tag:.+}", _pull)
    post("/api/doimport/{system}/{type}/{tag:.+}", _import)
    return app


@web.middleware
async def _as_shifter_says(request: web.Request, handler: Verb) -> web.StreamResponse:
    """Every way out but success is one and the same; the log has the cause."""
    try:
        return await handler(request)
    except (Fault, web.HTTPException) as error:
        cause = " ".join(str(error).split())
    except ConnectionError:
        raise
    except Exception:
        _log.exception("request failed: path=%s", request.path)
        cause = "internal error"
    body = {"status": 404, "error": "Not Found", "message": f"Not Found: {request.url}"}
    return web.json_response(body, status=404, headers={CAUSE: cause})


async def _root(request: web.Request) -> web.StreamResponse:
    return web.Response(text="{lookup,pull,expire,list}")


async def _list(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account = await _anybody(request)
    images = await gateway.images(account)
    system = gateway.config.system
    return web.json_response({"list": [one for each in images for one in records_of(each, system)]})


async def _lookup(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account = await _anybody(request)
    user = "" if account is None else await in_thread(name_of, account.uid)
    image = await gateway.lookup(account, _name(request), user=user)
    return web.json_response(next(records_of(image, gateway.config.system)))


async def _pull(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account, logins = await _somebody(request)
    name = _name(request)
    if name.itype != "docker":
        raise UsageError(f"{name}: only docker images are pulled")
    lists = lists_in(await _body(request))
    registry = reference_of(name.tag, gateway.config.default_registry).registry
    standing = await gateway.pull(account, name, lists=lists, login=logins.get(registry))
    return web.json_response(record_of(standing, gateway.config.system))


async def _import(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account, _ = await _somebody(request)
    gateway.rights.check_import(account)
    name, body = read("custom", _tag(request), ""), await _body(request)
    form = body.get("format") or FORMS[0]
    if form not in FORMS:
        raise UsageError(f"{str(form)[:40]!r} is no form of image")
    path = check_path(str(body.get("filepath") or ""), gateway.config.import_dirs)
    lists = lists_in(body)
    standing = await gateway.import_file(account, name, None, form, lists, path=path)
    return web.json_response(record_of(standing, gateway.config.system))


async def _queue(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account, _ = await _somebody(request)
    waiting = await gateway.queue(account)
    return web.json_response(
        {"list": [{"status": each.state, "image": each.name.tag} for each in waiting]}
    )


async def _expire(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account, _ = await _somebody(request)
    status: bool | None = False
    if account.admin:
        status = True if await gateway.expire(account, _name(request)) else None
    return web.json_response({"status": status})


async def _autoexpire(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account, _ = await _somebody(request)
    status = await gateway.autoexpire(account) if account.admin else False
    return web.json_response({"status": status})


async def _metrics(request: web.Request) -> web.StreamResponse:
    gateway = _gateway(request)
    account, _ = await _somebody(request)
    text = request.query.get("limit", str(LOOKUPS))
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else LOOKUPS
    found = await gateway.lookups(account, min(limit, MOST_LOOKUPS))
    return web.json_response(
        [
            {
                "user": each.user,
                "uid": each.uid,
                "system": gateway.config.system,
                "type": each.name.itype,
                "tag": each.name.tag,
                "id": each.id,
                "time": each.time,
            }
            for each in found
        ]
    )


def _gateway(request: web.Request) -> Gateway:
    """The gateway, if the system is its own. Raises UsageError."""
    gateway = context_of(request).operations.gateway
    if request.match_info["system"] != gateway.config.system:
        raise UsageError(f"this gateway is for {gateway.config.system}")
    return gateway


def _tag(request: web.Request) -> str:
    return request.match_info["tag"].removesuffix("/")


def _name(request: web.Request) -> ImageName:
    """The name in the path. Raises UsageError, ReferenceInvalid."""
    default = _gateway(request).config.default_registry
    try:
        return read(request.match_info["type"], _tag(request), default)
    except ReferenceInvalid as error:
        raise UsageError(str(error)) from error


async def _anybody(request: web.Request) -> Account | None:
    """Who asks; None for nobody, where that is allowed. Raises as _somebody does."""
    if HEADER not in request.headers and _gateway(request).config.anonymous:
        account_of(request).user = "anonymous"
        return None
    return (await _somebody(request))[0]


async def _somebody(request: web.Request) -> tuple[Account, Logins]:
    """Who asks, and the logins that they sealed in. Raises Unauthorized, MungeUnusable."""
    credential = request.headers.get(HEADER)
    if credential is None:
        raise Unauthorized("there is no credential")
    gateway = _gateway(request)
    sealed = await request.app[_MUNGE].open(credential)
    account_of(request).user = f"uid:{sealed.uid}"
    groups = await in_thread(groups_of, sealed.uid, sealed.gid)
    account = gateway.rights.account(sealed.uid, sealed.gid, groups, owner=False)
    return account, logins_in(sealed.content, gateway.config.default_registry)


async def _body(request: web.Request) -> dict[str, Any]:
    """The body's object; none is an empty one. Raises UsageError."""
    raw = b""
    while len(raw) <= BODY_LIMIT and (piece := await request.content.read(BODY_LIMIT)):
        raw += piece
    try:
        said = json.loads(raw) if raw.strip(b"\0 \r\n\t") else {}
    except (ValueError, RecursionError):
        said = None
    if len(raw) > BODY_LIMIT or not isinstance(said, dict):
        raise UsageError("the body must be a small JSON object")
    return said
