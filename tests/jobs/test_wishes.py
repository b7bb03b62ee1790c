"""Wishes: the file that people write, and which tags it means."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registryd.jobs.errors import JobInvalid
from registryd.jobs.wish_list import LIST_LIMIT, WishList, parse_wishes
from registryd.jobs.wishes import Wish, wishes_of
from registryd.oci.reference import Reference

ALPINE = Reference("docker.io", "library/alpine")
APP = Reference("ghcr.io", "org/app")
WHOLE = """\
# what the login nodes need
nodes: a[1-64]
refresh: 2h
platforms: [linux/amd64]
images:
  alpine: [3.20, "3.*", latest]
  ghcr.io/org/app:
    tags: v2.*
    platforms: all
    refresh: 10m
"""
AS_LIST = """\
images:
  - name: docker.io/library/alpine
    tags: ["3.*"]
    platforms: [linux/arm64]
  - {name: ghcr.io/org/app, tags: [latest], refresh: 1d}
"""


def test_a_whole_file() -> None:
    """Everything a file can say; a tag is read as it is written, also where YAML sees a number."""
    alpine = Wish(ALPINE, ("3.20", "3.*", "latest"), ("linux/amd64",), refresh=7200.0)
    app = Wish(APP, ("v2.*",), (), True, 600.0)

    assert WishList((alpine, app), "a[1-64]") == parse_wishes(WHOLE)


def test_images_as_a_list() -> None:
    """Entries with a name are the same; what they leave out is as usual."""
    alpine = Wish(ALPINE, ("3.*",), ("linux/arm64",))
    app = Wish(APP, ("latest",), refresh=86400.0)

    assert WishList((alpine, app)) == parse_wishes(AS_LIST)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("images: 1", "line 1: images must be a mapping"),
        ("nodes: all", "line 1: there is nothing wished for"),
        ("images: {}", "line 1: there is nothing wished for"),
        ("images:\n  alpine: []", "line 2: docker.io/library/alpine: wish for some of its tags"),
        ("images:\n  alpine: ['!']", "line 2: '!' is neither a tag nor a pattern"),
        ("images:\n  alpine: [x]\n  alpine: [y]", "line 3: 'alpine' is there twice"),
        ("images:\n  A!: [x]", "line 2: 'A!' is not an image reference"),
        ("images:\n  alpine:3: [x]", "line 2: docker.io/library/alpine:3: a wish names a repos"),
        ("images:\n  alpine:\n    tag: x", "line 3: 'tag' is not known here .known: tags"),
        ("images:\n  alpine:\n    refresh: 1h", "line 2: alpine needs tags"),
        ("images:\n- name: alpine", "line 2: alpine needs tags"),
        ("images:\n- tags: [x]", "line 2: an image in a list needs a name"),
        ("images:\n- alpine", "line 2: an image must be a mapping"),
        ("images: {alpine: x}\nrefresh: 5", "line 2: '5' is not a time"),
        ("images: {alpine: x}\nrefresh: 5s", "tags are looked up every 1m to 7d"),
        ("images: {alpine: x}\nplatforms: [a/b/c/d]", "line 2: "),
        ("images: {alpine: x}\nnodes: 'a['", "line 2: host list"),
        ("images: {alpine: [[x]]}", "line 1: this must be one word"),
        ("images: &x {alpine: x}", "line 1: anchors and aliases"),
        ("images:\n  a: *x", "line 2: anchors and aliases"),
        ("a: [", "line 1: not YAML"),
        ("a: b: c", "line 1: not YAML"),
        ("[" * 2000, "line 1: this is nested too deeply"),
        ("\x00", "not YAML"),
        ("images: {alpine: x}\n---\nimages: {b: x}", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "must be a mapping"),
        (f"images: {{{', '.join(f'a{n}: x' for n in range(200))}}}", "200 wishes are too many"),
        ("#" * (LIST_LIMIT + 1), "at most"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """Each mistake is one line, with the line of the file."""
    with pytest.raises(JobInvalid, match=said) as error:
        parse_wishes(text)
    assert "\n" not in str(error.value)


@given(st.one_of(st.text(max_size=200), st.text("ab:-[]{}&*!'\"#\n ,imges|>%", max_size=80)))
def test_any_text(text: str) -> None:
    """Whatever a file holds, it is a list of wishes or JobInvalid."""
    try:
        parse_wishes(text)
    except JobInvalid:
        return
    assert yaml.safe_load(text)


@given(st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(("images", "nodes", "tags", "name", "refresh", "platforms", "alpine")),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
))  # fmt: skip
def test_any_value(value: object) -> None:
    """Whatever a YAML writer writes, it is a list of wishes or JobInvalid."""
    try:
        found = parse_wishes(yaml.safe_dump(value))
    except JobInvalid:
        return
    assert found.wishes


def test_which_tags_are_meant() -> None:
    """Tags that are named are meant whatever there is; of the others those that fit, each once."""
    wish = Wish(ALPINE, ("latest", "3.*", "3.1*"))

    assert ("latest", "3.19", "3.1") == wish.chosen(["3.19", "3", "2.3.1", "latest", "3.1"])
    assert ("latest",) == wish.chosen([])
    assert ("latest",) == wish.exact


def test_a_wish_s_record() -> None:
    """A wish in a record reads back as the same one; a refresh that is none is refused."""
    wish = Wish(APP, ("v*",), ("linux/amd64",), refresh=90.0)

    assert (wish,) == wishes_of([wish.as_json()])
    for refresh in (0, 1e9, float("nan")):
        with pytest.raises(JobInvalid, match="refresh"):
            wishes_of([{**wish.as_json(), "refresh": refresh}])
