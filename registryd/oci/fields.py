"""Reading JSON that strangers wrote: every value is proven to be what its key promises.

Invariants:
- a document is UTF-8, one JSON object, and no object in it has a member twice (two readers must
  not see two different documents);
- whatever is wrong is told as Malformed with the path of the member, and in no other way;
- a text that is given out can be encoded: no lone surrogates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import DigestInvalid

#: Most entries of one list (layers, manifests): far beyond any real image, and small in memory.
ENTRIES_LIMIT: Final = 10_000
#: Largest size that a descriptor may claim: what file systems and databases count in.
SIZE_LIMIT: Final = 2**63 - 1

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_MEDIA_TYPE = re.compile(r"[!-~]+/[ -~]+")
_MEDIA_TYPE_LIMIT: Final = 255


class Malformed(ValueError):
    """Raised when a document is not what it has to be; the text names the member."""


def load(raw: bytes) -> dict[str, object]:
    """The object that these bytes are. Raises Malformed."""
    loaded = _loaded(raw)
    if not isinstance(loaded, dict):
        raise Malformed("it is not a JSON object")
    return loaded


def load_list(raw: bytes) -> list[object]:
    """The list of at most ENTRIES_LIMIT that these bytes are. Raises Malformed."""
    loaded = _loaded(raw)
    if not isinstance(loaded, list):
        raise Malformed("it is not a JSON list")
    if len(loaded) > ENTRIES_LIMIT:
        raise Malformed(f"it has {len(loaded)} entries, {ENTRIES_LIMIT} are allowed")
    return loaded


def _loaded(raw: bytes) -> object:
    try:
        written = raw.decode("utf-8")
        return json.loads(written, object_pairs_hook=_once, parse_constant=_no_constant)
    except Malformed:
        raise
    except UnicodeDecodeError:
        raise Malformed("it is not UTF-8 text") from None
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"it is not JSON ({str(error)[:140]})") from None


def text(parent: Mapping[str, object], key: str, where: str = "") -> str:
    """A text member; empty when it is missing or null. Raises Malformed."""
    value = parent.get(key)
    if value is None:
        return ""
    return _text(value, f"{where}{key}")


def texts(parent: Mapping[str, object], key: str, where: str = "") -> tuple[str, ...]:
    """A list of texts; empty when it is missing or null. Raises Malformed."""
    return tuple(_text(value, f"{where}{key}[]") for value in entries(parent, key, where))


def entries(parent: Mapping[str, object], key: str, where: str = "") -> list[object]:
    """A list of at most ENTRIES_LIMIT; empty when it is missing or null. Raises Malformed."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{where}{key} must be a list")
    if len(value) > ENTRIES_LIMIT:
        raise Malformed(f"{where}{key} has {len(value)} entries, {ENTRIES_LIMIT} are allowed")
    return value


def mapping(value: object, where: str) -> dict[str, object]:
    """This value, an object. Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed(f"{where} must be an object")
    return value


def labels(parent: Mapping[str, object], key: str, where: str = "") -> Mapping[str, str]:
    """A map of texts that nobody can change; empty when it is missing or null. Raises Malformed."""
    value = parent.get(key)
    if value is None:
        return NOTHING
    path = f"{where}{key}"
    pairs = mapping(value, path).items()
    return MappingProxyType({_text(k, path): _text(v, f"{path}[{k[:60]!r}]") for k, v in pairs})


def media_type(parent: Mapping[str, object], key: str, where: str = "") -> str:
    """A media type; empty when it is missing, null or empty. Raises Malformed."""
    value = text(parent, key, where)
    if value and (len(value) > _MEDIA_TYPE_LIMIT or not _MEDIA_TYPE.fullmatch(value)):
        raise Malformed(f"{where}{key} is not a media type: {value[:140]!r}")
    return value


def descriptor(value: object, where: str) -> Descriptor:
    """A content descriptor (image specification 1.1, "Descriptors"). Raises Malformed."""
    members = mapping(value, where)
    kind = media_type(members, "mediaType", f"{where}.")
    if not kind:
        raise Malformed(f"{where}.mediaType is missing")
    try:
        digest = Digest.parse(text(members, "digest", f"{where}."))
    except DigestInvalid as error:
        raise Malformed(f"{where}.digest: {error}") from None
    size = members.get("size")
    if type(size) is not int or not 0 <= size <= SIZE_LIMIT:
        raise Malformed(f"{where}.size must be a whole number of bytes, not {_shown(size)}")
    return Descriptor(kind, digest, size)


def _no_constant(name: str) -> float:
    """Refuse NaN and infinities: they are no JSON, and other readers know none."""
    raise Malformed(f"it is not JSON ({name} is no number)")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise Malformed(f"the member {name[:140]!r} is there twice")
        members[name] = value
    return members


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{where} must be a text, not {_shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed(f"{where} is not a text that can be written") from None
    return value


def _shown(value: object) -> str:
    """A value as it may stand in an error line; never walks into lists and objects."""
    if isinstance(value, dict | list):
        return "a list or an object"
    if type(value) is int and abs(value) > SIZE_LIMIT:
        return "so large a number"
    return repr(value)[:60]
