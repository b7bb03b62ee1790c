"""The one table from an error's code to an HTTP status, and the bodies that say it.

Distribution specification 1.1, "Error Codes". To a runtime that uses this daemon as a mirror, only
404 and 503 mean "ask elsewhere" without harm: 429 and 401 make some of them retry or give up.
"""

from __future__ import annotations

import json

from aiohttp import web

from cache.errors import Fault
from registryd.oci.errors import ErrorEntry, RangeInvalid
from registryd.oci.ranges import ContentRange
from registryd.oci.wire_errors import format_errors

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
    body = format_errors([ErrorEntry(fault.code, str(fault))])
    if request.path.startswith("/api/"):
        body = json.dumps({**json.loads(body), "exit_code": fault.exit_code}).encode()
    return web.Response(
        status=status_of(fault, request),
        headers=headers,
        body=body,
        content_type="application/json",
    )
