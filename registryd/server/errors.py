"""The one table from an error's code to an HTTP status, and the bodies that say it.

Distribution specification 1.1, "Error Codes". To a runtime that uses this daemon as a mirror, only
404 and 503 mean "ask elsewhere" without harm: 429 makes some of them retry or give up. 401 is said
only where a token is wanted, which every client can have; without one it means 403.
"""

from __future__ import annotations

import json

from aiohttp import web

from cache.errors import Fault
from registryd.oci.errors import BlobUnknown, ErrorEntry, RangeInvalid, RegistryError
from registryd.oci.ranges import ContentRange
from registryd.oci.routes import BlobRoute, parse
from registryd.oci.wire_errors import format_errors
from registryd.ports import TransportError
from registryd.server.challenges import LoginWanted, challenge

STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 400,
    "TOOMANYREQUESTS": 503,
    "UNAUTHORIZED": 403,
    "UNAVAILABLE": 503,
    "UNKNOWN": 503,
    "UNSUPPORTED": 405,
}
#: Reading: what upstream sent was wrong, so nothing can be given; not the asker's fault.
READ_STATUS = {"DIGEST_INVALID": 503, "SIZE_INVALID": 503, "MANIFEST_INVALID": 503}
#: The control API's clients are people: they are told the true kind.
API_STATUS = {"TOOMANYREQUESTS": 429, "UNAUTHORIZED": 401, "UNSUPPORTED": 400}


def status_of(fault: Fault, request: web.Request) -> int:
    """The status that this fault has on this request."""
    if fault.exit_code == 64:
        return 400
    if isinstance(fault, LoginWanted):
        return 401
    if request.path.startswith("/api/"):
        return API_STATUS.get(fault.code, STATUS[fault.code])
    if request.method in ("GET", "HEAD"):
        return READ_STATUS.get(fault.code, STATUS[fault.code])
    return STATUS[fault.code]


def refusal_response(fault: Fault, request: web.Request) -> web.Response:
    """The answer that says this fault in the protocol's words."""
    headers = {}
    if isinstance(fault, RangeInvalid) and fault.size is not None:
        headers["Content-Range"] = str(ContentRange.unsatisfied(fault.size))
    if isinstance(fault, LoginWanted) and (wanted := challenge(request, fault)):
        headers["WWW-Authenticate"] = wanted
    body = format_errors([ErrorEntry(fault.code, _said(fault, request))])
    if request.path.startswith("/api/"):
        body = json.dumps({**json.loads(body), "exit_code": fault.exit_code}).encode()
    return web.Response(
        status=status_of(fault, request),
        headers=headers,
        body=body,
        content_type="application/json",
    )


def _said(fault: Fault, request: web.Request) -> str:
    """What the client is told of a fault; the log has all of it.

    A registry is asked in another way for a blob that is here through another repository than for
    one that is not: its own words would tell which, and so what others have cached.
    """
    upstream = isinstance(fault, RegistryError | TransportError)
    if not upstream or isinstance(fault, RangeInvalid) or not _is_of_blob(request):
        return str(fault)
    if isinstance(fault, BlobUnknown):
        return "this repository has no such blob"
    return "the registry did not give this blob; the daemon's log says why"


def _is_of_blob(request: web.Request) -> bool:
    try:
        return request.method in ("GET", "HEAD") and isinstance(parse(request.path), BlobRoute)
    except Fault:
        return False
