"""The application of one listener: /v2, /api/v1, health and metrics, errors and the request log.

Invariants:
- no exception leaves: a Fault is answered in the protocol's words, anything else is logged whole
  and answered by 500 without its text;
- one log line a request, with the digest or reference in its path and no secret in it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from cache.errors import Fault
from registryd.oci.errors import ErrorEntry, Unsupported
from registryd.oci.routes import (
    BlobRoute,
    Catalog,
    ManifestRoute,
    Ping,
    ReferrersRoute,
    Route,
    TagsRoute,
    UploadRoute,
    UploadsRoute,
    parse,
)
from registryd.oci.wire_errors import format_errors
from registryd.secrets import redact_url
from registryd.server import (
    blobs,
    browsers,
    catalog,
    control,
    manifest_pushes,
    manifests,
    realm,
    referrers,
    status_page,
    uploads,
)
from registryd.server.account import ACCOUNT, Account
from registryd.server.context import CAUSE, CONTEXT, Context, context_of
from registryd.server.errors import refusal_response
from registryd.server.logline import logfmt
from registryd.server.ready import Readiness

Answer = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)
ROUTE: web.RequestKey[str] = web.RequestKey("route", str)
READINESS = web.AppKey("readiness", Readiness)
#: Statuses that are said all day between programs: their lines are for who looks closely.
ROUTINE = web.AppKey("routine", frozenset[int])

METHODS: dict[type[Any], dict[str, Answer]] = {
    BlobRoute: {
        "GET": blobs.serve_blob, "HEAD": blobs.serve_blob, "DELETE": uploads.delete_blob,
    },
    ManifestRoute: {
        "GET": manifests.serve_manifest, "HEAD": manifests.serve_manifest,
        "PUT": manifest_pushes.put_manifest, "DELETE": manifest_pushes.delete_manifest,
    },
    TagsRoute: {"GET": manifests.list_tags, "HEAD": manifests.list_tags},
    ReferrersRoute: {"GET": referrers.list_referrers, "HEAD": referrers.list_referrers},
    Catalog: {"GET": catalog.list_repositories, "HEAD": catalog.list_repositories},
    UploadsRoute: {"POST": uploads.open_upload},
    UploadRoute: {
        "PATCH": uploads.patch_upload, "PUT": uploads.put_upload,
        "GET": uploads.upload_status, "HEAD": uploads.upload_status,
        "DELETE": uploads.cancel_upload,
    },
}  # fmt: skip


def make_app(context: Context, sessions: uploads.Uploads, *, ui: bool = False) -> web.Application:
    """The application of one listener; with the status page (``ui``) if so."""
    app = web.Application(middlewares=[observe, browsers.guarded])
    app[CONTEXT] = context
    app[uploads.UPLOADS] = sessions
    app[READINESS] = Readiness(context.node)
    app.on_shutdown.append(_drain)
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/readyz", _ready)
    app.router.add_get("/metrics", _metrics)
    control.add_routes(app)
    realm.add_routes(app)
    if ui:
        status_page.add_routes(app)
    app.router.add_route("*", "/v2", _registry)
    app.router.add_route("*", "/v2/{path:.*}", _registry)
    return app


async def _registry(request: web.Request) -> web.StreamResponse:
    route: Route = parse(request.path)
    request[ROUTE] = type(route).__name__.removesuffix("Route").lower()
    if isinstance(route, Ping):
        return realm.ping(request)
    methods = METHODS.get(type(route), {})
    answer = methods.get(request.method)
    if answer is None:
        allowed = ", ".join(methods) or "nothing yet"
        raise Unsupported(f"{request.method} is not offered here (offered: {allowed})")
    return await answer(request, route)


async def _drain(app: web.Application) -> None:
    app[READINESS].drain()


async def _alive(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok\n")


async def _ready(request: web.Request) -> web.StreamResponse:
    checks = await request.app[READINESS].checks()
    well = all(check.well for check in checks)
    lines = "".join(f"{check.line}\n" for check in checks)
    return web.Response(status=200 if well else 503, text=lines)


async def _metrics(request: web.Request) -> web.StreamResponse:
    return web.Response(
        body=await context_of(request).metrics.text(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


@web.middleware
async def observe(request: web.Request, handler: Next) -> web.StreamResponse:
    """Answer errors, count, and log."""
    began = time.monotonic()
    account = request[ACCOUNT] = Account()
    status, cause = 499, ""
    try:
        response = await _answered(request, handler)
        status, cause = response.status, response.headers.pop(CAUSE, "")
        response.headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    except ConnectionError as gone:
        # Who asked has left in the middle of the answer: nobody is to be told, and no one to blame.
        cause = str(gone)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=status)
    finally:
        ended = time.monotonic()
        metrics = context_of(request).metrics
        metrics.count(request.method, _label(request), status, account, began, ended)
        calm = account.calm or (status < 400 and not cause)
        level = logging.INFO if calm else logging.WARNING
        if status in request.app.get(ROUTINE, ()):
            level = logging.INFO if cause and not calm else logging.DEBUG
        if _log.isEnabledFor(level):
            _log.log(level, _line(request, status, account, began, ended, cause))


def _line(
    request: web.Request, status: int, account: Account, began: float, ended: float, cause: str
) -> str:
    """The log line of a request."""
    first, path = account.first_byte, request.path_qs
    return logfmt(
        "request:",
        method=request.method,
        path=redact_url(path) if "?" in path else path,
        status=status,
        seconds=ended - began,
        first_byte_seconds=None if first is None else first - began,
        bytes=account.sent,
        source=account.source,
        host=None if account.sender is None else account.sender(),
        ref=account.reference,
        digest=account.digest,
        user=account.user,
        listener=context_of(request).listener,
        peer=request.remote,
        stale=account.stale,
        cause=cause,
    )


def _label(request: web.Request) -> str:
    """What a request is counted as: never a text that the client has made up."""
    resource = request.match_info.route.resource
    path = "/v2" if resource is None else resource.canonical
    if path.startswith("/v2"):
        label: str = request.get(ROUTE, "other")
        return label
    return path.strip("/").replace("/", "_")


async def _answered(request: web.Request, answer: Next) -> web.StreamResponse:
    try:
        return await answer(request)
    except Fault as fault:
        response = refusal_response(fault, request)
        response.headers[CAUSE] = " ".join(str(fault).splitlines())
        return response
    except (web.HTTPException, ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        _log.exception("request failed: path=%s", redact_url(request.path_qs))
        body = format_errors([ErrorEntry("UNKNOWN", "internal error, see the daemon's log")])
        return web.Response(status=500, body=body, content_type="application/json")
