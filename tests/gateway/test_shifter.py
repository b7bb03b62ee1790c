"""Shifter's words: logins, lists of numbers, records, and the lines for udiRoot."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import Fault
from registryd.gateway.asking import Standing
from registryd.gateway.errors import MungeUnusable
from registryd.gateway.meta import meta_of
from registryd.gateway.munge import parse_output
from registryd.gateway.names import ImageName
from registryd.gateway.record import Account, Acl, Image, Request, Setup
from registryd.gateway.shifter import (
    FIELDS,
    MISSING,
    lists_in,
    logins_in,
    record_of,
    records_of,
)

NAME = ImageName("docker", "a/b:1")
IMAGE = Image(
    id="0" * 64,
    itype="docker",
    private=True,
    content="1" * 64,
    size=4096,
    form="squashfs",
    setup=Setup(
        env=("A=b", "EVIL=x\nUSERACL: 0", "P=/bin"),
        entry=("/e", "it's"),
        cmd=("c",),
        workdir="/w",
        labels={"l": "v"},
    ),
    last_pull=5.5,
    last_lookup=6.0,
    lists={2: Acl(frozenset({2, 1}), frozenset({3}))},
    names=(NAME, ImageName("custom", "x:1")),
)


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(min_size=1, max_size=20))
def test_a_password_is_all_after_the_first_colon(password: str, user: str) -> None:
    """Colons in a password are its own; the default location is that of the default registry."""
    user = user.replace(":", "_")
    sealed = {"authorized_locations": {"https://index.docker.io/v1/": f"{user}:{password}"}}
    found = logins_in(json.dumps(sealed).encode(), "reg.site")
    sealed = {"authorized_locations": {"default": f"{user}:{password}", "x.org": None}}
    default = logins_in(json.dumps(sealed).encode(), "reg.site")

    assert ["docker.io"] == list(found)
    assert (user, password) == (found["docker.io"].username, found["docker.io"].password.reveal())
    assert ["reg.site"] == list(default)


@given(st.binary(max_size=60))
def test_any_sealed_bytes(content: bytes) -> None:
    """Whatever was sealed is logins, or is refused, without a word of it."""
    try:
        logins_in(content, "docker.io")
    except Fault as fault:
        assert "sealed" in str(fault)


def test_nothing_sealed() -> None:
    """Nothing, or nothing of use, is no login."""
    assert [{}] * 4 == [
        logins_in(raw, "docker.io") for raw in (b"", b"\0", b"{}", b'{"authorized_locations": {}}')
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        (None, set()),
        ("1,2", {1, 2}),
        ("1,2,", {1, 2}),
        (" 7 ,", {7}),
        ([4, "5"], {4, 5}),
    ],
)
def test_lists_of_numbers(text: object, found: set[int]) -> None:
    """Numbers with commas, and one comma too many."""
    assert Acl(frozenset(found)) == lists_in({"allowed_uids": text})


@pytest.mark.parametrize("text", ["x", "1;2", "-1", "1.5", "4294967295", "9" * 30, "²", {"a": 1}])
def test_what_is_no_list(text: object) -> None:
    """It is refused."""
    with pytest.raises(Fault, match="is no number"):
        lists_in({"allowed_gids": text})


def test_records() -> None:
    """A record has every field, MISSING where there is nothing; a public image has no lists, a
    failure its reason; names of two types are two records."""
    docker, custom = sorted(records_of(IMAGE, "c"), key=lambda each: each["itype"], reverse=True)
    (public,) = records_of(replace(IMAGE, private=False, names=(NAME,), setup=Setup()), "c")
    request = Request(name=NAME, account=Account(1, 1), acl=Acl(), created=0.0, changed=1.0)
    failed = record_of(Standing(NAME, None, replace(request, state="FAILURE", message="why")), "c")

    assert list(FIELDS) == list(docker)
    assert ("c", ["a/b:1"], "READY", [1, 2], [3], 5.5) == tuple(
        docker[key] for key in ("system", "tag", "status", "userACL", "groupACL", "last_pull")
    )
    assert (["/e", "it's"], "/w", {"l": "v"}) == (
        docker["ENTRY"],
        docker["WORKDIR"],
        docker["LABELS"],
    )
    assert ("custom", ["x:1"]) == (custom["itype"], custom["tag"])
    assert {MISSING} == {public[key] for key in ("userACL", "groupACL", "ENV", "ENTRY", "WORKDIR")}
    assert (MISSING, "FAILURE", "why") == (failed["id"], failed["status"], failed["status_message"])


def test_the_lines_for_udi_root() -> None:
    """Lists as Python writes them, who may read it only where it is private; a value with a line
    break, which would add a line of its own, is left out."""
    lines = meta_of(IMAGE).splitlines()

    assert [
        "FORMAT: squashfs", "ENTRY: ['/e', \"it's\"]", "CMD: ['c']", "WORKDIR: /w",
        "USERACL: 1,2", "GROUPACL: 3", "ENV: A=b", "ENV: P=/bin",
    ] == lines  # fmt: skip
    assert "ACL" not in meta_of(replace(IMAGE, private=False)).replace("USERACL: 0", "")


def test_what_unmunge_prints() -> None:
    """Facts, an empty line, and what is in it, to the byte; anything else is not understood."""
    out = b"UID:             61001\nGID:             7\nLENGTH:          6\n\na\n\nb\n\n"
    found = parse_output(out)

    assert (61001, 7, b"a\n\nb\n\n") == (found.uid, found.gid, found.content)
    for wrong in (b"", out[:-1], out + b"x", out.replace(b"UID", b"XID")):
        with pytest.raises(MungeUnusable):
            parse_output(wrong)
