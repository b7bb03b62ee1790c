"""/api/v1: what registryctl speaks. JSON in and out; long work answers with a stream of events.

Invariants:
- every route is a method of Operations with the same arguments, and nothing else;
- a stream's last line is the result, ``done`` or ``failed``; its status was 200 long before;
- who hangs up cancels their operation; fetches that were begun go on for others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from cache.errors import Fault
from registryd.oci.errors import UsageError
from registryd.operations import Operations
from registryd.server.account import account_of
from registryd.server.challenges import local
from registryd.server.context import caller_of, context_of
from registryd.server.kernel import send_descriptor
from registryd.server.warnings import warning_header
from registryd.transfer import report as events
from registryd.transfer.groups import task_group
from registryd.transfer.report import Event, Report

#: A request's body is a few names.
BODY_LIMIT = 64 << 10
#: While there is nothing to tell, we look this often (seconds) whether anybody listens still.
LISTENING = 1.0

_log = logging.getLogger(__name__)

Arguments = dict[str, Any]
Stream = Callable[[Operations, Arguments, Report], Awaitable[None]]


def add_routes(app: web.Application) -> None:
    """Put the control API's routes into an application."""
    from registryd.server.gateway_control import add_gateway_routes  # it builds on what is here

    add_gateway_routes(app)
    get, post = app.router.add_get, app.router.add_post
    get("/api/v1/overview", _json(lambda o, a: o.overview(**_own(a))))
    get("/api/v1/sharing", _json(lambda o, a: o.sharing(principal=a["principal"])))
    get("/api/v1/status", _json(lambda o, a: o.status(principal=a["principal"])))
    get("/api/v1/images", _images)
    get("/api/v1/cache/active", _json(lambda o, a: o.active(principal=a["principal"])))
    get("/api/v1/cache/blobs", _json(lambda o, a: o.blobs(principal=a["principal"])))
    get("/api/v1/cache/df", _json(lambda o, a: o.df(principal=a["principal"])))
    get("/api/v1/cache/pins", _json(lambda o, a: o.pins(principal=a["principal"])))
    get("/api/v1/cache/quota", _json(lambda o, a: o.quota(principal=a["principal"])))
    post("/api/v1/cache/pin", _json(lambda o, a: o.pin(**a), "reference"))
    post("/api/v1/cache/unpin", _json(lambda o, a: o.unpin(**_own(a))))
    post("/api/v1/cache/gc", _json(lambda o, a: o.gc(**_own(a))))
    post("/api/v1/cache/repair", _json(lambda o, a: o.repair(**_own(a))))
    post("/api/v1/cache/verify", _stream(lambda o, a, r: o.verify(**_own(a), report=r)))
    post("/api/v1/cache/contents", _json(lambda o, a: o.contents(**_own(a))))
    get("/api/v1/digest", _json(lambda o, a: o.digest(a.pop("reference"), **a), "reference"))
    get("/api/v1/ratelimit", _json(lambda o, a: o.ratelimit(a.pop("reference"), **a), "reference"))
    get("/api/v1/tags", _json(lambda o, a: o.tags(a.pop("repository"), **a), "repository"))
    get("/api/v1/manifest", _raw(lambda o, a, r: o.manifest(a.pop("reference"), **a, report=r)))
    get("/api/v1/config", _raw(lambda o, a, r: o.config(a.pop("reference"), **a)))
    get("/api/v1/access", _json(lambda o, a: o.grants(principal=a["principal"])))
    post("/api/v1/access/revoke", _json(lambda o, a: o.revoke(**_own(a))))
    get("/api/v1/nodes", _json(lambda o, a: o.nodes()))
    get("/api/v1/cache/whohas", _json(lambda o, a: o.whohas(**_own(a)), "digest"))
    get("/api/v1/limits", _json(lambda o, a: o.limits()))
    post("/api/v1/limits", _json(lambda o, a: o.limit(**_own(a))))
    post("/api/v1/prefetch", _stream(lambda o, a, r: o.prefetch(**_own(a), report=r)))
    get("/api/v1/jobs", _json(lambda o, a: o.jobs(**_own(a))))
    get("/api/v1/job", _json(lambda o, a: o.job(**_own(a)), "id"))
    post("/api/v1/jobs/cancel", _json(lambda o, a: o.cancel(**_own(a)), "id"))
    post("/api/v1/tag", _json(lambda o, a: o.tag(**_own(a)), "source", "target"))
    post("/api/v1/rmi", _json(lambda o, a: o.rmi(**_own(a)), "reference"))
    post("/api/v1/open", _opened)
    post("/api/v1/pull", _stream(lambda o, a, r: o.pull(**a, report=r), "reference"))
    post("/api/v1/convert", _stream(lambda o, a, r: o.convert(**a, report=r), "reference"))
    post("/api/v1/push", _stream(lambda o, a, r: o.push(**a, report=r), "source", "destination"))


#: Arguments a request may leave out, and what they are then; by the end of its path, with the
#: method where that matters.
OPTIONAL: dict[str, dict[str, Any]] = {
    "pull": {"platforms": (), "all_platforms": False, "unkept": False},
    "convert": {"form": "squashfs", "compat": None, "plain": False, "platform": None},
    "manifest": {"platform": None},
    "config": {"platform": None},
    "tags": {"last": None, "limit": None},
    "overview": {"since": None},
    "pin": {"name": None, "lasting": None, "until": None},
    "unpin": {"reference": None, "name": None},
    "verify": {"targets": ()},
    "contents": {"references": (), "everything": False, "made": True},
    "repair": {"dry_run": False},
    "gc": {"dry_run": False, "free": None},
    "revoke": {"repository": None, "whose": None, "everything": False},
    "prefetch": {
        "references": (),
        "nodes": None,
        "everywhere": False,
        "wishes": None,
        "platforms": (),
        "all_platforms": False,
        "convert": None,
        "compat": None,
        "plain": False,
        "lasting": None,
        "wait": False,
        "timeout": None,
    },
    "POST limits": {"up": None, "down": None, "registries": ()},
}


def _own(arguments: Arguments) -> Arguments:
    """Without the login: operations on names in the cache need none."""
    return {key: value for key, value in arguments.items() if key != "login"}


async def arguments_of(
    request: web.Request,
    *required: str,
    optional: Mapping[str, Any] | None = None,
    queried: bool = False,
) -> Arguments:
    """The arguments of a call, in its query (``queried``) or body.

    Raises UsageError, naming what is missing or too much.
    """
    given: Arguments = dict(request.query)
    if request.method == "POST" and not queried:
        given = await _object(request)
    if optional is None:
        name = request.path.rpartition("/")[2]
        optional = OPTIONAL.get(f"{request.method} {name}") or OPTIONAL.get(name, {})
    for key in required:
        if not isinstance(given.get(key), str):
            raise UsageError(f"{request.path} needs {key!r}, a text")
    unknown = given.keys() - {*required, *optional}
    if unknown:
        raise UsageError(f"{request.path} does not know {', '.join(sorted(unknown))}")
    for key, default in optional.items():
        if key in given and not _fits(given[key], default):
            raise UsageError(f"{request.path}: {key!r} must be {_KINDS[type(default)]}")
    account = account_of(request)
    named = (given.get(key) for key in ("reference", "repository", "source"))
    account.reference = next((text for text in named if isinstance(text, str)), "")
    caller = caller_of(request)
    return {**optional, **given, "login": caller.login, "principal": caller.principal}


async def _object(request: web.Request) -> Arguments:
    body = b""
    while len(body) <= BODY_LIMIT and (piece := await request.content.read(BODY_LIMIT)):
        body += piece
    if len(body) > BODY_LIMIT:
        raise UsageError(f"the body may have at most {BODY_LIMIT} bytes")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("the body must be a JSON object") from None
    if not isinstance(given, dict):
        raise UsageError("the body must be a JSON object")
    return given


_KINDS = {tuple: "a list of texts", bool: "true or false", str: "a text", type(None): "a text"}


def _fits(value: object, default: object) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, bool if isinstance(default, bool) else str)


def _json(
    act: Callable[[Operations, Arguments], Awaitable[dict[str, object]]], *required: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        arguments = await arguments_of(request, *required)
        result = await act(context_of(request).operations, arguments)
        account_of(request).stale = str(result.get("stale", ""))
        return web.Response(body=json.dumps(result).encode(), content_type="application/json")

    return answer


def _raw(
    act: Callable[[Operations, Arguments, Report], Awaitable[tuple[bytes, str, str, str]]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        arguments = await arguments_of(request, "reference")
        operations, told = context_of(request).operations, list[Event]()
        content, media_type, digest, manifest = await act(operations, arguments, told.append)
        headers = {
            "Content-Type": media_type,
            "Docker-Content-Digest": digest,
            "X-Registryd-Manifest-Digest": manifest,
        }
        for event in told:
            account_of(request).stale = str(event["cause"])
            headers["Warning"] = warning_header(str(event["message"]))
        return web.Response(body=content, headers=headers)

    return answer


async def _images(request: web.Request) -> web.StreamResponse:
    """The images, as the text that they are kept as."""
    arguments = await arguments_of(request)
    body = await context_of(request).operations.image_list(principal=arguments["principal"])
    return web.Response(body=body, content_type="application/json")


async def _opened(request: web.Request) -> web.StreamResponse:
    """A blob as an open file."""
    check_passing(request)
    arguments = await arguments_of(request, "reference", "digest")
    async with context_of(request).operations.opened(**arguments) as file:
        return await passed(request, file, arguments["digest"])


def check_passing(request: web.Request) -> None:
    """Raise UsageError where an open file cannot be passed."""
    if local(request) is None or request.transport is None:
        raise UsageError("an open file is passed over the unix socket alone (use --socket)")


async def passed(request: web.Request, file: int, digest: str) -> web.StreamResponse:
    """The answer with an open file, which comes with the first byte of the body."""
    assert request.transport is not None  # noqa: S101 (``check_passing`` has looked)
    account = account_of(request)
    account.digest = digest
    account.found("blob", "hit")
    body = json.dumps({"digest": digest, "size": os.fstat(file).st_size}).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    account.begins()
    await response.prepare(request)
    await send_descriptor(request.transport, body, file)
    await response.write_eof()
    return response


def _stream(act: Stream, *required: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        arguments = await arguments_of(request, *required)
        operations = context_of(request).operations
        return await streamed(request, lambda r: act(operations, arguments, r))

    return answer


async def streamed(
    request: web.Request, act: Callable[[Report], Awaitable[None]]
) -> web.StreamResponse:
    """The answer that tells an operation's events as they come."""
    lines: asyncio.Queue[Event | None] = asyncio.Queue()
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async with task_group() as group:  # a client that hangs up ends it by ConnectionError
        group.create_task(_tell(act, lines))
        while (event := await _next(request, lines)) is not None:
            if event["event"] == "warning":
                account_of(request).stale = str(event["cause"])
            await response.write(json.dumps(event).encode() + b"\n")
    with suppress(ConnectionError):  # who has read the last event may have gone by now
        await response.write_eof()
    return response


async def _next(request: web.Request, lines: asyncio.Queue[Event | None]) -> Event | None:
    while True:
        try:
            async with asyncio.timeout(LISTENING):
                return await lines.get()
        except TimeoutError:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client has gone") from None


async def _tell(
    act: Callable[[Report], Awaitable[None]], lines: asyncio.Queue[Event | None]
) -> None:
    """Run an operation; its events, and how it ended, go to the queue, then None."""
    try:
        await act(lines.put_nowait)
    except Fault as fault:
        lines.put_nowait(events.failed(fault))
    except Exception:
        _log.exception("operation failed")
        lines.put_nowait(events.failed(Fault("internal error, see the daemon's log")))
    finally:
        lines.put_nowait(None)
