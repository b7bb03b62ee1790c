"""Values of the gateway as rows of its database (pure).

Invariant: what was written is read back the same, but that somebody was an admin then: that says
nothing of now.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from registryd.gateway.names import ImageName
from registryd.gateway.record import Account, Acl, Image, Request, Setup


def acl_text(acl: Acl) -> str:
    """A list as text."""
    return json.dumps({"uids": sorted(acl.uids), "gids": sorted(acl.gids)})


def acl_of(text: str) -> Acl:
    """A list from its text."""
    said = json.loads(text)
    return Acl(frozenset(said["uids"]), frozenset(said["gids"]))


def account_text(account: Account) -> str:
    """Somebody as text."""
    return json.dumps(
        {
            "uid": account.uid,
            "gid": account.gid,
            "groups": sorted(account.groups),
            "principal": account.principal,
        }
    )


def account_of(text: str) -> Account:
    """Somebody from their text."""
    said = json.loads(text)
    return Account(said["uid"], said["gid"], frozenset(said["groups"]), said["principal"])


def request_of(row: Sequence[Any]) -> Request:
    """An import from its row."""
    return Request(
        name=ImageName(row[0], row[1]),
        state=row[3],
        message=row[4],
        exit_code=row[5],
        account=account_of(row[6]),
        acl=acl_of(row[7]),
        created=row[8],
        changed=row[9],
        with_login=bool(row[10]),
        kind=row[11],
        file=row[12],
        form=row[13],
        path=row[14],
    )


def request_row(request: Request) -> tuple[object, ...]:
    """The row of an import."""
    return (
        *request.key,
        request.state,
        request.message,
        request.exit_code,
        account_text(request.account),
        acl_text(request.acl),
        request.created,
        request.changed,
        request.with_login,
        request.kind,
        request.file,
        request.form,
        request.path,
    )


def image_row(image: Image) -> tuple[object, ...]:
    """The row of an image."""
    return (
        image.id,
        image.itype,
        image.state,
        image.private,
        image.content,
        image.size,
        image.form,
        json.dumps(image.setup.as_json()),
        image.last_pull,
        image.last_lookup,
    )


def image_of(row: Sequence[Any], lists: dict[int, Acl]) -> Image:
    """An image from its row and its pullers' lists."""
    return Image(
        id=row[0],
        itype=row[1],
        state=row[2],
        private=bool(row[3]),
        content=row[4],
        size=row[5],
        form=row[6],
        setup=Setup.of(json.loads(row[7])),
        last_pull=row[8],
        last_lookup=row[9],
        lists=lists,
    )
