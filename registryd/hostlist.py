"""Lists of hosts as Slurm writes them: ``r[1-2]n[01-64,70]:5051,login1:5051``.

Grammar:

    list   := word { separator word }         separator: commas and blanks, as many as there are
    word   := part { part } [ ":" port ] | "[" IPv6 address "]" [ ":" port ]
    part   := text | "[" range { "," range } "]"
    range  := digits [ "-" digits ]

A word with several brackets means their product, the last one changing fastest. A range is as
wide as its first number is written: ``[08-11]`` is 08, 09, 10, 11. Text after the last bracket
(``n[1-4].example.org``) is taken, which Slurm itself refuses. With three brackets and more, Slurm
gives the same names in another order.

Invariants:
- a name that leaves here is a host name, an IPv4 address or ``[IPv6 address]``, and perhaps a port;
- names keep their case, their zeros and their order; none comes twice;
- ``expand(fold(names)) == names`` for names that are valid and differ;
- the work is bounded by the length of the text and NAMES_LIMIT: counts are known before names are
  made.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from registryd.oci.errors import UsageError

#: As many hosts as Slurm takes in one list.
NAMES_LIMIT: Final = 65536
#: Longest host name (RFC 1035, 2.3.4, without the last dot), and longest part between dots.
HOST_LIMIT: Final = 253
LABEL_LIMIT: Final = 63
PORT_LIMIT: Final = 65535

_WORD = re.compile(r"[^\s,\[]*(?:\[[^\[\]]*\][^\s,\[]*)*")
_SEPARATORS = re.compile(r"[\s,]*")
_PART = re.compile(r"\[([^\[\]]*)\]|[^\[\]]+")
# A number fills a label at most: longer ones are no host's, and cost time to convert.
_RANGE = re.compile(rf"([0-9]{{1,{LABEL_LIMIT}}})(?:-([0-9]{{1,{LABEL_LIMIT}}}))?")
_SIX = re.compile(r"\[[^\[\]]*\]")
_PORT = re.compile(r"(?P<rest>.*?)(?::(?P<port>[^:\[\]]*))?", re.DOTALL)
# Names of Slurm's nodes may have underscores, which DNS has too, though not for hosts.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
# What programs read as a number, and therefore as an address (inet_aton).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_DIGITS = re.compile(r"([0-9]+)")


class _Wrong(Exception):
    """Raised within a word; ``at`` counts characters from the word's first."""

    def __init__(self, text: str, at: int = 0) -> None:
        super().__init__(text)
        self.at = at


def expand(text: str) -> tuple[str, ...]:
    """The names that a list means, in its order and each once.

    Raises UsageError, which says at which character the list is wrong.
    """
    names: dict[str, None] = {}
    count = 0
    for start, word in _words(text):
        try:
            parsed = _Word.parse(word)
            count += parsed.count
            if count > NAMES_LIMIT:
                raise _Wrong(f"the list has more than {NAMES_LIMIT} names by here")
            for name in parsed.names():
                _check(name)
                names[name] = None
        except _Wrong as wrong:
            where = f"character {start + wrong.at + 1}, in {_shown(word)}"
            raise UsageError(f"host list: {where}: {wrong}") from None
    if not names:
        raise UsageError('host list: it names no host (write "n1,n2" or "n[1-64]")')
    return tuple(names)


def fold(names: Iterable[str]) -> str:
    """The usual short form of names in their order: ``n[1-3]`` for n1, n2, n3.

    Only neighbours are folded: sort with ``natural_order`` where the order says nothing.
    Raises UsageError for a name that is no host, and for more than NAMES_LIMIT names.
    """
    unique = dict.fromkeys(names)
    if len(unique) > NAMES_LIMIT:
        raise UsageError(f"{len(unique)} hosts are too many for one list (at most {NAMES_LIMIT})")
    folded = [_Folded.of(*_split(name)) for name in unique]
    # From the right: so what is merged further left is a product in the order of ``expand``.
    for place in reversed(range(max((len(each.numbers) for each in folded), default=0))):
        folded = list(_merged(folded, place))
    return ",".join(map(str, folded))


def natural_order(name: str) -> tuple[tuple[str, int, str, int], ...]:
    """A sort key that puts n2 before n10."""
    pieces = _DIGITS.split(name)
    numbers = [*pieces[1::2], ""]
    return tuple(
        (text, len(number.lstrip("0")) if number else -1, number.lstrip("0"), len(number))
        for text, number in zip(pieces[::2], numbers, strict=True)
    )


def split_port(name: str) -> tuple[str, int | None]:
    """Host and port of one name; an IPv6 address comes without its brackets. Raises UsageError."""
    host, port = _split(name)
    return host.strip("[]"), int(port) if port else None


def _split(name: str) -> tuple[str, str]:
    try:
        return _check(name)
    except _Wrong as wrong:
        raise UsageError(f"{_shown(name)} is not a host: {wrong}") from None


def _words(text: str) -> Iterator[tuple[int, str]]:
    """The words with their places; commas in brackets separate no words."""
    at = _end(_SEPARATORS, text, 0)
    while at < len(text):
        end = _end(_WORD, text, at)
        if text[end : end + 1] == "[":
            # Never closed, or another one before it is closed.
            raise UsageError(
                f"host list: character {end + 1}, in {_shown(text[at : end + 30])}:"
                ' this bracket is not closed (write "n[1-4]", and no bracket in a bracket)'
            )
        yield at, text[at:end]
        at = _end(_SEPARATORS, text, end)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


@dataclass(frozen=True, slots=True)
class _Range:
    """The numbers from ``first`` to ``last``, with zeros in front up to ``width`` digits."""

    first: int
    last: int
    width: int

    @classmethod
    def parse(cls, text: str, at: int) -> _Range:
        match = _RANGE.fullmatch(text)
        if match is None:
            form = f"a number or a range such as 01-64, of at most {LABEL_LIMIT} digits"
            raise _Wrong(f"{_shown(text)} is not {form}", at)
        first, last = match[1], match[2] or match[1]
        if int(first) > int(last):
            raise _Wrong(f"the range {_shown(text)} runs backwards", at)
        return cls(int(first), int(last), len(first))

    def __len__(self) -> int:
        # Never more than the system can count: what is too large is too large.
        return min(self.last - self.first, NAMES_LIMIT) + 1

    def __iter__(self) -> Iterator[str]:
        return (f"{number:0{self.width}}" for number in range(self.first, self.last + 1))


@dataclass(frozen=True, slots=True)
class _Word:
    """Texts and brackets in turn, not multiplied out yet."""

    parts: tuple[str | tuple[_Range, ...], ...]

    @classmethod
    def parse(cls, word: str) -> _Word:
        if word.startswith("[") and ":" in word[: word.index("]")]:
            return cls((_six(word),))
        parts: list[str | tuple[_Range, ...]] = []
        end, port = 0, False
        for match in _PART.finditer(word):
            if match.start() != end:
                break
            if match[1] is not None and port:
                raise _Wrong("a port takes no brackets", end)
            end = match.end()
            parts.append(match[0] if match[1] is None else _ranges(match[1], match.start() + 1))
            port = port or ":" in match[0]
        if end != len(word):
            raise _Wrong('this "]" closes nothing', end)
        return cls(tuple(parts))

    @property
    def count(self) -> int:
        """How many names it means, doubles included; exact up to NAMES_LIMIT."""
        count = 1
        for part in self.parts:
            if not isinstance(part, str):
                count = min(count * sum(map(len, part)), NAMES_LIMIT + 1)
        return count

    def names(self) -> Iterator[str]:
        """Each name, the last bracket changing fastest."""
        choices = [
            (part,) if isinstance(part, str) else tuple(itertools.chain.from_iterable(part))
            for part in self.parts
        ]
        return map("".join, itertools.product(*choices))


def _ranges(text: str, at: int) -> tuple[_Range, ...]:
    found = []
    for piece in text.split(","):
        found.append(_Range.parse(piece, at))
        at += len(piece) + 1
    return tuple(found)


def _six(word: str) -> str:
    """A word that begins with an IPv6 address, in the address's shortest form."""
    text, _, rest = word[1:].partition("]")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise _Wrong(f"{_shown(text)} is neither numbers nor an IPv6 address", 1) from None
    if address.scope_id is not None:
        raise _Wrong("an address with a zone means another host on each node", 1)
    if address.ipv4_mapped is not None:  # whose text differs between versions of Python
        raise _Wrong(f"the address is written {address.ipv4_mapped}", 1)
    return f"[{address}]{rest}"


def _check(name: str) -> tuple[str, str]:
    """Host and port ("" for none) of a single name. Raises _Wrong."""
    match = _PORT.fullmatch(name)
    host, port = (match["rest"], match["port"]) if match else (name, None)
    if port is not None and not (re.fullmatch("[1-9][0-9]{0,4}", port) and int(port) <= PORT_LIMIT):
        raise _Wrong(f"{_shown(port)} is not a port (1 to {PORT_LIMIT})")
    if _SIX.fullmatch(host):
        if _six(host) != host:
            raise _Wrong(f"the address is written {_six(host)}")
    elif ":" in host:
        raise _Wrong('an IPv6 address stands in brackets ("[2001:db8::1]:5051")')
    else:
        _check_host(host)
    return host, port or ""


def _check_host(host: str) -> None:
    labels = host.split(".")
    if len(host) > HOST_LIMIT:
        raise _Wrong(f"a host name has at most {HOST_LIMIT} characters")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise _Wrong(f"{_shown(host)} ends in a number and is no IPv4 address") from None
        return
    for label in labels:
        if not _LABEL.fullmatch(label) or len(label) > LABEL_LIMIT:
            rule = f"letters, digits, - and _ inside, at most {LABEL_LIMIT} between dots"
            raise _Wrong(f"{_shown(host)} is not a host name ({rule})")


@dataclass(frozen=True, slots=True)
class _Folded:
    """Names that differ in their numbers only: every number has the values that it takes."""

    texts: tuple[str, ...]
    numbers: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, host: str, port: str) -> _Folded:
        # The digits of a port or of an IPv6 address are no numbers of hosts.
        pieces = [host] if host.startswith("[") else _DIGITS.split(host)
        pieces[-1] += f":{port}" if port else ""
        return cls(tuple(pieces[::2]), tuple((number,) for number in pieces[1::2]))

    def like(self, other: _Folded, place: int) -> bool:
        """Whether nothing differs but the values at this place."""
        return (
            self.texts == other.texts
            and place < len(self.numbers)
            and self.numbers[:place] == other.numbers[:place]
            and self.numbers[place + 1 :] == other.numbers[place + 1 :]
        )

    @override
    def __str__(self) -> str:
        several = [len(values) > 1 for values in self.numbers]
        if any(several) and not self.texts[-1]:
            several[-1] = True  # "r[1-2]n[1]": Slurm reads no "r[1-2]n1"
        pieces = [self.texts[0]]
        for many, values, text in zip(several, self.numbers, self.texts[1:], strict=True):
            pieces += [f"[{_as_ranges(values)}]" if many else values[0], text]
        return "".join(pieces)


def _merged(folded: Iterable[_Folded], place: int) -> Iterator[_Folded]:
    """Neighbours that differ at this place only, as one."""
    first: _Folded | None = None
    values: list[str] = []
    for each in folded:
        if first is not None and first.like(each, place):
            values += each.numbers[place]
            continue
        if first is not None:
            yield _with_values(first, place, values)
        first, values = each, list(each.numbers[place]) if place < len(each.numbers) else []
    if first is not None:
        yield _with_values(first, place, values)


def _with_values(folded: _Folded, place: int, values: list[str]) -> _Folded:
    if not values:
        return folded
    before, after = folded.numbers[:place], folded.numbers[place + 1 :]
    return _Folded(folded.texts, (*before, tuple(values), *after))


def _as_ranges(values: tuple[str, ...]) -> str:
    runs: list[list[str]] = []
    for value in values:
        if runs and value == f"{int(runs[-1][-1]) + 1:0{len(runs[-1][0])}}":
            runs[-1] = [runs[-1][0], value]
        else:
            runs.append([value])
    return ",".join("-".join(run) for run in runs)


def _shown(text: str) -> str:
    """A wrong piece as an error shows it: on one line, and not without end."""
    return ascii(text) if len(text) <= 60 else ascii(text[:60]) + "..."
