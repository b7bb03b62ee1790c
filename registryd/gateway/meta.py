"""``<id>.meta``: the lines that udiRoot reads beside an image (pure).

Invariant: what an image says of itself cannot add a line: a value with a line break is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from registryd.gateway.record import Image


def meta_of(image: Image) -> str:
    """The lines for an image; lists stand as Python writes them, users and groups as numbers."""
    return "".join(f"{line}\n" for line in _lines(image) if _is_one(line))


def _lines(image: Image) -> Iterator[str]:
    setup = image.setup
    yield f"FORMAT: {image.form}"
    if setup.entry:
        yield f"ENTRY: {list(setup.entry)!r}"
    if setup.cmd:
        yield f"CMD: {list(setup.cmd)!r}"
    if setup.workdir:
        yield f"WORKDIR: {setup.workdir}"
    if image.private:
        acl = image.acl
        yield f"USERACL: {_numbers(acl.uids)}"
        if acl.gids:
            yield f"GROUPACL: {_numbers(acl.gids)}"
    for entry in setup.env:
        yield f"ENV: {entry}"
    if setup.user:
        yield f"USER: {setup.user}"


def _numbers(ids: Iterable[int]) -> str:
    return ",".join(str(id) for id in sorted(ids))


def _is_one(line: str) -> bool:
    return len(line.splitlines()) == 1 and "\0" not in line
