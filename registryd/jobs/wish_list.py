"""The file of wishes that people write, in YAML: which tags, for which nodes, how often.

::

    nodes: a[1-64]
    refresh: 1h
    images:
      docker.io/library/alpine: ["3.*", latest]
      ghcr.io/org/app:
        tags: ["v2.*"]
        platforms: [linux/amd64, linux/arm64]
        refresh: 10m

``images`` may be a list too, whose entries have a ``name``.

Invariants:
- a mistake is told with its line, and what is allowed; an unknown key is a mistake;
- scalars are read as they are written: a tag ``3.20`` is no number;
- the work is bounded: the text's length, its depth, and no aliases (which multiply).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

import yaml

from cache.errors import Fault
from registryd.hostlist import expand
from registryd.jobs.errors import JobInvalid
from registryd.jobs.wishes import USUAL, WISHES_LIMIT, Wish, check_scope
from registryd.oci.reference import Reference
from registryd.units import parse_duration

#: Bytes of a list: it goes to the daemon in one small request.
LIST_LIMIT: Final = 32 << 10
DEEPEST: Final = 6
EVERYWHERE: Final = "all"

_KEYS = ("images", "nodes", "refresh", "platforms")
_ENTRY_KEYS = ("name", "tags", "refresh", "platforms")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WishList:
    """What is wished for; ``nodes`` is a host list, ``all``, or "" where the file says nothing."""

    wishes: tuple[Wish, ...]
    nodes: str = ""


@dataclass(frozen=True, slots=True)
class _Usual:
    """What holds for entries that do not say otherwise."""

    platforms: tuple[str, ...] = ()
    everything: bool = False
    refresh: float = USUAL


def parse_wishes(text: str) -> WishList:
    """Read a list of wishes. Raises JobInvalid, which names the line."""
    if len(text.encode(errors="replace")) > LIST_LIMIT:
        raise JobInvalid(f"a list of wishes has at most {LIST_LIMIT} bytes")
    try:
        _check_shape(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise JobInvalid(f"wishes: line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise JobInvalid(f"wishes: not YAML: {str(error).splitlines()[0]}") from None
    if root is None:
        raise JobInvalid("wishes: the file is empty (it needs images:)")
    return _list(root)


def _check_shape(text: str) -> None:
    """Refuse what would be large once it is composed. Raises JobInvalid."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _wrong(event, "anchors and aliases are not taken")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            _wrong(event, "this is nested too deeply")


def _list(root: yaml.Node) -> WishList:
    members = dict(_members(root, _KEYS, "the file"))
    usual = _usual(members, _Usual())
    if "images" not in members:
        _wrong(root, "there is nothing wished for (images: is missing)")
    wishes = tuple(_wishes(members["images"], usual))
    if not wishes:
        _wrong(members["images"], "there is nothing wished for")
    if len(wishes) > WISHES_LIMIT:
        _wrong(root, f"{len(wishes)} wishes are too many ({WISHES_LIMIT} at most)")
    nodes = _scalar(members["nodes"]) if "nodes" in members else ""
    if "nodes" in members and nodes != EVERYWHERE:
        _at(members["nodes"], lambda: expand(nodes))
    return WishList(wishes, nodes)


def _wishes(node: yaml.Node, usual: _Usual) -> Iterator[Wish]:
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            members = dict(_members(entry, _ENTRY_KEYS, "an image"))
            if "name" not in members:
                _wrong(entry, "an image in a list needs a name")
            yield _wish(members["name"], members, usual)
        return
    for name, value, key in _pairs(node, "images"):
        if isinstance(value, yaml.MappingNode):
            members = dict(_members(value, _ENTRY_KEYS[1:], name))
        else:
            members = {"tags": value}
        yield _wish(key, members, usual)


def _wish(name: yaml.Node, members: dict[str, yaml.Node], usual: _Usual) -> Wish:
    if "tags" not in members:
        _wrong(name, f'{_scalar(name)[:200]} needs tags (["*"] for all of them)')
    scope = _usual(members, usual)

    def made() -> Wish:
        return Wish(
            Reference.parse(_scalar(name), default_tag=None),
            tuple(_scalars(members["tags"])),
            scope.platforms,
            scope.everything,
            scope.refresh,
        )

    return _at(name, made)


def _usual(members: dict[str, yaml.Node], otherwise: _Usual) -> _Usual:
    platforms, everything, refresh = otherwise.platforms, otherwise.everything, otherwise.refresh
    if (node := members.get("platforms")) is not None:
        platforms = tuple(_scalars(node))
        everything = platforms == (EVERYWHERE,)
        platforms = () if everything else platforms
        _at(node, lambda: check_scope(platforms, everything))
    if (node := members.get("refresh")) is not None:
        written = _scalar(node)
        refresh = _at(node, lambda: parse_duration(written))
    return _Usual(platforms, everything, refresh)


def _members(node: yaml.Node, known: tuple[str, ...], what: str) -> Iterator[tuple[str, yaml.Node]]:
    for key, value, place in _pairs(node, what):
        if key not in known:
            _wrong(place, f"{key[:60]!r} is not known here (known: {', '.join(known)})")
        yield key, value


def _pairs(node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Keys and values of a mapping, each key once, with the place of the key."""
    if not isinstance(node, yaml.MappingNode):
        _wrong(node, f"{what} must be a mapping (key: value)")
    seen = set()
    for place, value in node.value:
        key = _scalar(place)
        if key in seen:
            _wrong(place, f"{key[:60]!r} is there twice")
        seen.add(key)
        yield key, value, place


def _scalars(node: yaml.Node) -> Iterator[str]:
    """The texts of a list, or one text."""
    if isinstance(node, yaml.SequenceNode):
        yield from map(_scalar, node.value)
    else:
        yield _scalar(node)


def _scalar(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        _wrong(node, "this must be one word")
    return str(node.value)


def _at(node: yaml.Node, act: Callable[[], T]) -> T:
    """The result of an act, whose fault is told with the line. Raises JobInvalid."""
    try:
        return act()
    except Fault as fault:
        _wrong(node, str(fault))


def _wrong(place: yaml.Node | yaml.Event, what: str) -> NoReturn:
    mark = place.start_mark
    raise JobInvalid(f"wishes: line {mark.line + 1 if mark else 1}: {what}") from None
