"""Shifter's words: the logins in a credential, lists of numbers, and its records (pure).

Invariants:
- a password is all that stands after the first colon, colons too;
- a field of a record that there is nothing for says so: ``MISSING``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from registryd.gateway.asking import Standing
from registryd.gateway.record import LARGEST_ID, LONGEST_LIST, Acl, Image, Request
from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.oci.reference import check_registry, normalised
from registryd.secrets import Login, Secret

MISSING: Final = "MISSING"
#: The location that means the registry of names without one.
DEFAULT: Final = "default"
FIELDS: Final = (
    "id",
    "system",
    "itype",
    "tag",
    "status",
    "userACL",
    "groupACL",
    "ENV",
    "ENTRY",
    "WORKDIR",
    "LABELS",
    "last_pull",
    "status_message",
)


def logins_in(content: bytes, default_registry: str) -> dict[str, Login]:
    """The logins that a caller sealed in, by registry. Raises UsageError."""
    if not content.strip(b"\0 \r\n\t"):
        return {}
    try:
        said = json.loads(content.rstrip(b"\0"))
        locations = said.get("authorized_locations") or {}
        pairs = [(name, value) for name, value in locations.items() if value]
    except (ValueError, AttributeError, RecursionError):
        raise UsageError("what was sealed is not what shifterimg seals") from None
    found: dict[str, Login] = {}
    for name, value in pairs:
        user, colon, password = str(value).partition(":")
        if not colon or not isinstance(value, str):
            raise UsageError("a login that was sealed is not USER:PASSWORD")
        login = Login(user, Secret(password), origin="the request")
        if name == DEFAULT:
            found.setdefault(default_registry, login)
        else:
            found[_registry(name)] = login
    return found


def _registry(location: str) -> str:
    host = location.rpartition("://")[2].partition("/")[0]
    try:
        registry, _ = normalised(host, "any")
        check_registry(registry)
    except ReferenceInvalid:
        raise UsageError("a location that was sealed is no registry") from None
    return registry


def lists_in(body: Mapping[str, Any]) -> Acl:
    """Whom a caller allows: numbers with commas, one comma too many included.

    Raises UsageError.
    """
    return Acl(_ids(body.get("allowed_uids")), _ids(body.get("allowed_gids")))


def _ids(text: object) -> frozenset[int]:
    words = text if isinstance(text, list) else str("" if text is None else text).split(",")
    found = set()
    for word in (str(word).strip() for word in words):
        if not word:
            continue
        if not (word.isascii() and word.isdecimal() and len(word) < 11):
            raise UsageError(f"{word[:40]!r} is no number of a user or group")
        if int(word) > LARGEST_ID:
            raise UsageError(f"{word} is no number of a user or group")
        found.add(int(word))
    if len(found) > LONGEST_LIST:
        raise UsageError(f"a list has at most {LONGEST_LIST} users or groups")
    return frozenset(found)


def record_of(standing: Standing, system: str) -> dict[str, Any]:
    """How a name stands, as a record."""
    if standing.request is not None:
        return _of_request(standing.request, system)
    if standing.image is None:
        return dict.fromkeys(FIELDS, MISSING)
    return next(records_of(standing.image, system))


def records_of(image: Image, system: str) -> Iterator[dict[str, Any]]:
    """An image as records: one for each type that it has names of."""
    types = {name.itype for name in image.names} or {image.itype}
    setup, acl = image.setup, image.acl
    for itype in sorted(types):
        yield _record(
            {
                "id": image.id,
                "system": system,
                "itype": itype,
                "tag": [name.tag for name in image.names if name.itype == itype],
                "status": image.state,
                "userACL": sorted(acl.uids) if image.private else None,
                "groupACL": sorted(acl.gids) if image.private else None,
                "ENV": list(setup.env),
                "ENTRY": list(setup.entry),
                "WORKDIR": setup.workdir,
                "LABELS": dict(setup.labels),
                "last_pull": image.last_pull,
            }
        )


def _of_request(request: Request, system: str) -> dict[str, Any]:
    return _record(
        {
            "system": system,
            "itype": request.name.itype,
            "tag": [request.name.tag],
            "status": request.state,
            "userACL": sorted(request.acl.uids),
            "groupACL": sorted(request.acl.gids),
            "status_message": request.message,
        }
    )


def _record(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: said.get(key) or MISSING for key in FIELDS}
