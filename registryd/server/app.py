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
from registryd.server import blobs, catalog, control, manifests, referrers, uploads
from registryd.server.context import CAUSE, CONTEXT, Context, context_of
from registryd.server.errors import refusal_response

Answer = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)
ROUTE: web.RequestKey[str] = web.RequestKey("route", str)

METHODS: dict[type[Any], dict[str, Answer]] = {
    BlobRoute: {
        "GET": blobs.serve_blob, "HEAD": blobs.serve_blob, "DELETE": uploads.delete_blob,
    },
    ManifestRoute: {
        "GET": manifests.serve_manifest, "HEAD": manifests.serve_manifest,
        "PUT": manifests.put_manifest, "DELETE": manifests.delete_manifest,
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


def make_app(context: Context, sessions: uploads.Uploads) -> web.Application:
    """The application of one listener."""
    app = web.Application(middlewares=[observe])
    app[CONTEXT] = context
    app[uploads.UPLOADS] = sessions
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/readyz", _alive)
    app.router.add_get("/metrics", _metrics)
    control.add_routes(app)
    app.router.add_route("*", "/v2", _registry)
    app.router.add_route("*", "/v2/{path:.*}", _registry)
    return app


async def _registry(request: web.Request) -> web.StreamResponse:
    route: Route = parse(request.path)
    request[ROUTE] = type(route).__name__.removesuffix("Route").lower()
    if isinstance(route, Ping):
        return web.Response(body=b"{}", content_type="application/json")
    methods = METHODS.get(type(route), {})
    answer = methods.get(request.method)
    if answer is None:
        allowed = ", ".join(methods) or "nothing yet"
        raise Unsupported(f"{request.method} is not offered here (offered: {allowed})")
    return await answer(request, route)


async def _alive(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok\n")


async def _metrics(request: web.Request) -> web.StreamResponse:
    return web.Response(
        body=context_of(request).metrics.text(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


@web.middleware
async def observe(request: web.Request, handler: Next) -> web.StreamResponse:
    """Answer errors, count, and log."""
    began = time.monotonic()
    status, cause = 499, ""
    try:
        response = await _answered(request, handler)
        status, cause = response.status, response.headers.pop(CAUSE, "")
        response.headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        return response
    except ConnectionError as gone:
        # Who asked has left in the middle of the answer: nobody is to be told, and no one to blame.
        cause = str(gone)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=status)
    finally:
        seconds = time.monotonic() - began
        route = _label(request)
        metrics = context_of(request).metrics
        metrics.requests.labels(request.method, route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        level = logging.INFO if status < 400 and not cause else logging.WARNING
        _log.log(
            level,
            "request: method=%s path=%s status=%d seconds=%.3f cause=%s",
            request.method,
            redact_url(request.path_qs),
            status,
            seconds,
            cause or "-",
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
