"""Error bodies of registries: read with tolerance, written by the rule, turned into our errors.

Distribution specification 1.1, "Error Codes".

Invariants:
- reading never raises, whatever came: JSON of several shapes, text, a web page, nothing;
- every text that is given out is one line of printable characters of bounded length, so it can
  stand in an error line and in a log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from registryd.oci import fields
from registryd.oci.errors import (
    BlobUnknown,
    Denied,
    ErrorEntry,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    RangeInvalid,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unavailable,
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registryd.oci.media_types import essence

#: Most that is read of an error body: messages are short, and a web page tells us nothing.
ERROR_BODY_LIMIT: Final = 64 * 1024
#: Longest text that is taken from a registry into a line of ours.
TEXT_LIMIT: Final = 300
#: Longest detail that is kept; a longer one is left out, as half a JSON text is none.
DETAIL_LIMIT: Final = 1000
#: Most entries that are read of one body.
ENTRIES_LIMIT: Final = 16

#: What is not there, by the code that a registry says it with.
ABSENT: Final[Mapping[str, type[RegistryError]]] = {
    "MANIFEST_UNKNOWN": ManifestUnknown,
    "NAME_UNKNOWN": NameUnknown,
    "NAME_INVALID": NameUnknown,
    "BLOB_UNKNOWN": BlobUnknown,
    "BLOB_UPLOAD_UNKNOWN": UploadUnknown,
}
#: What a code means under any other status of the 400s.
REFUSED: Final[Mapping[str, type[RegistryError]]] = {
    **ABSENT,
    "MANIFEST_INVALID": ManifestInvalid,
    "MANIFEST_BLOB_UNKNOWN": ManifestBlobUnknown,
    "BLOB_UPLOAD_INVALID": UploadInvalid,
    "DIGEST_INVALID": UploadInvalid,
    "SIZE_INVALID": UploadInvalid,
    "UNSUPPORTED": Unsupported,
    "UNAUTHORIZED": Unauthorized,
    "DENIED": Denied,
    "TOOMANYREQUESTS": RateLimited,
}
#: Statuses that mean one thing whatever the body says.
PLAIN: Final[Mapping[int, type[RegistryError]]] = {
    401: Unauthorized,
    403: Denied,
    405: Unsupported,
    429: RateLimited,
    502: Unavailable,
    504: Unavailable,
}
#: What a daemon of ours says, with 503, of a registry that it could not reach.
AWAY: Final = Unavailable.code

_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,1000})", re.IGNORECASE)


def parse_errors(
    status: int, body: bytes, content_type: str | None = None
) -> tuple[ErrorEntry, ...]:
    """What an error body says; empty when it says nothing."""
    head = body[:ERROR_BODY_LIMIT]
    try:
        return _from_object(fields.load(head))
    except (fields.Malformed, RecursionError):
        return _from_text(status, head.decode("utf-8", "replace"), essence(content_type or ""))


def format_errors(entries: Iterable[ErrorEntry]) -> bytes:
    """The body that says these errors."""
    errors = []
    for entry in entries:
        error: dict[str, object] = {"code": entry.code, "message": entry.message}
        if entry.detail:
            error["detail"] = _from_json(entry.detail)
        errors.append(error)
    return json.dumps({"errors": errors}).encode()


def refusal(
    status: int,
    entries: tuple[ErrorEntry, ...],
    what: str,
    *,
    absent: type[RegistryError] = ManifestUnknown,
) -> RegistryError:
    """The error that an answer means; ``what`` was asked for and begins the line.

    ``absent`` is what a 404 means that does not say it better.
    """
    line = f"{what}: {_said(status, entries)}"
    if status == 416:
        out_of_range = RangeInvalid(line)
        out_of_range.entries = entries
        return out_of_range
    return _class_of(status, entries, absent)(line, status=status, entries=entries)


def clean(text: str) -> str:
    """This text as one printable line of at most TEXT_LIMIT characters."""
    visible = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(visible.split())
    return line if len(line) <= TEXT_LIMIT else f"{line[: TEXT_LIMIT - 3]}..."


def _class_of(
    status: int, entries: tuple[ErrorEntry, ...], absent: type[RegistryError]
) -> type[RegistryError]:
    if status in PLAIN:
        return PLAIN[status]
    if not 400 <= status < 500:
        away = any(entry.code == AWAY for entry in entries)
        return Unavailable if away else RegistryError
    known = ABSENT if status == 404 else REFUSED
    fallback = absent if status == 404 else RegistryError
    return next((known[entry.code] for entry in entries if entry.code in known), fallback)


def _said(status: int, entries: tuple[ErrorEntry, ...]) -> str:
    told = "; ".join(
        ": ".join(part for part in (entry.code, entry.message) if part) for entry in entries
    )
    return f"the registry says {clean(told)} ({status})" if told else f"the registry says {status}"


def _from_object(members: Mapping[str, object]) -> tuple[ErrorEntry, ...]:
    listed = members.get("errors")
    if isinstance(listed, list):
        return tuple(entry for value in listed[:ENTRIES_LIMIT] if (entry := _entry(value)))
    entry = _entry(members)
    return (entry,) if entry else ()


def _entry(value: object) -> ErrorEntry | None:
    """One entry, from any of the shapes that are in use; None when it says nothing."""
    if not isinstance(value, dict):
        return ErrorEntry("", clean(value)) if isinstance(value, str) and value.strip() else None
    # "error" with "error_description" is what token services say (RFC 6749, 5.2).
    code = _first(value, "code", "error").upper().replace(" ", "_")
    message = _first(value, "message", "error_description", "details", "detail")
    if not code and not message:
        return None
    detail = "" if value.get("detail") is None else json.dumps(value["detail"])
    return ErrorEntry(code, message, detail if len(detail) <= DETAIL_LIMIT else "")


def _first(members: Mapping[str, object], *keys: str) -> str:
    """The first of these members that is a text or a number, cleaned."""
    for key in keys:
        value = members.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return clean(str(value))
    return ""


def _from_text(status: int, text: str, kind: str) -> tuple[ErrorEntry, ...]:
    if kind == "text/html" or text.lstrip()[:1] == "<":
        title = _TITLE.search(text)
        named = f" ({clean(title[1])})" if title and clean(title[1]) else ""
        return (ErrorEntry("", f"a web page{named} in place of a registry's answer"),)
    message = clean(text)
    # A text that only repeats the status adds nothing.
    return (ErrorEntry("", message),) if message and message != str(status) else ()


def _from_json(detail: str) -> object:
    try:
        return json.loads(detail)
    except (ValueError, RecursionError):
        return detail
